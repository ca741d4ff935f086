"""New source: the two files of a source, guessed from one sample file, for a person to review.

Belongs here: looking at a sample, guessing what it says, writing `defs.yaml` and `contract.sql`. Does not belong here:
reading files for good; the guesses are tried by the very reader that will judge every later file (`incoming.judge`).
"""

from etl_project.new_source.make import Made, make
from etl_project.new_source.sample import CannotUse

__all__ = ["CannotUse", "Made", "make"]
