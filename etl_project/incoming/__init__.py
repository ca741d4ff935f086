"""The former place of `etl_project.sources`, for the `type:` in the `defs.yaml` of existing pipelines."""
