"""HTTP out: each day's report is delivered at most once for each content.

Other packages come in here; what they may use stands in `__init__.pyi`, and is loaded when it is used.
"""

from etl_project.extras import door

__getattr__, __dir__, __all__ = door(__name__, __file__)
