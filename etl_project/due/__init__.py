"""Due: what should be built and is not, and the ways to ask for it.

Other packages come in here; what they may use stands in `__init__.pyi`, and is loaded when it is used.
"""

from etl_project.extras import door

__getattr__, __dir__, __all__ = door(__name__, __file__)
