"""The `etl` command: a module a command."""
