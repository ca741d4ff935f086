"""Proofs: that what is stored is what was committed (verify) and what a rebuild gives (reproducible, prove).

Other packages come in here; what they may use stands in `__init__.pyi`, and is loaded when it is used.
"""

from etl_project.extras import door

__getattr__, __dir__, __all__ = door(__name__, __file__)
