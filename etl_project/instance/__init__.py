"""Instance: Dagster's own storage under the data folder, and how runs and commands log.

`dagster.yaml` names the classes here. Logging (`json_lines`) is used before Dagster is loaded, so the rest is looked up
when it is asked for.

Other packages come in here; what they may use stands in `__init__.pyi`, and is loaded when it is used.
"""

from etl_project.extras import door

__getattr__, __dir__, __all__ = door(__name__, __file__)
