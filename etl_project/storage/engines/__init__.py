"""Engines: how one kind of database is opened, and what its errors mean. A new engine is one module here."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, {"duckdb_file", "ducklake", "postgres", "server"})
