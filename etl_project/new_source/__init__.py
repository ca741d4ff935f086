"""New source: the two files of a source, guessed from one sample file, for a person to review.

Belongs here: looking at a sample, guessing what it says, writing `defs.yaml` and `contract.sql`. Does not belong here:
reading files for good; the guesses are tried by the very reader that will judge every later file (`incoming.judge`).

Other packages come in here; what they may use stands in `__init__.pyi`, and is loaded when it is used.
"""

from etl_project.extras import door

__getattr__, __dir__, __all__ = door(__name__, __file__)
