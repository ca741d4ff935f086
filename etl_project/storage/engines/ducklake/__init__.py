"""DuckLake: tables as Parquet files with their catalog in PostgreSQL, for writers on more than one machine.

`engine` opens it and says what its errors mean, `address` is what a setting says about it, `attach` brings DuckDB's
extensions and the catalog into a connection, `queue` makes writers of one table wait for each other, `table` keeps the
rules of a contract that DuckLake has no words for.
"""
