"""What users replace: one folder a pipeline, each with its `defs.yaml` (the source), `contract.sql` and Python."""
