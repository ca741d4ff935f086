"""The pipelines that the tests run: a shop with files of orders, payments from a topic, reports and their delivery.

The project's own pipelines are what users replace, so no test of the machinery may depend on them. This shop began as
the sample, and need not stay like it: what the sample itself does is tested in `unit/pipelines` and by the demo.
"""
