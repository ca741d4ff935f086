"""Engines: how one kind of database is opened, and what its errors mean. A new engine is one module here."""
