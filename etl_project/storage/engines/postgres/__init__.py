"""PostgreSQL: tables in the server itself, for writers and readers on more than one machine.

`engine` opens it and says what its errors mean, `address` is what a setting says about it, `attach` brings it into a
connection, `homes` says which type holds which, `table` does in the server's own words what DuckDB's do not reach.
"""
