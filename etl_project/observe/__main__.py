"""`python -m etl_project.observe`: the `etl` command where its script is not on the path."""

from etl_project.observe.cli import main

main()
