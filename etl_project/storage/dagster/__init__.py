"""Dagster: the storage contract as IO managers. The only part of `storage` that knows an orchestrator."""
