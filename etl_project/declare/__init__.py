"""Declare: what a pipeline author writes down: daily tables, contracts; and the code version of both."""
