"""What a person sees: status, the demo's report and the `etl` command."""
