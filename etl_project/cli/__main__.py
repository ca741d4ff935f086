"""`python -m etl_project.cli`: the `etl` command where its script is not on the path."""

from etl_project.cli.main import main

main()
