"""Server: what the engines have in common that stand on a PostgreSQL server.

`address` is what they are reached by, `errors` what the server says, `queue` makes writers of one table wait for each
other, `extensions` brings DuckDB's own into a connection.
"""
