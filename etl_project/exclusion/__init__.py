"""Exclusion: two runs never work on one partition of one asset at the same time, whoever dies.

Other packages come in here; what they may use stands in `__init__.pyi`, and is loaded when it is used.
"""

from etl_project.extras import door

__getattr__, __dir__, __all__ = door(__name__, __file__)
