"""The tests, and what they share.

While they are loaded nobody looks for garbage, of which loading leaves none: it would be a fifth of the time. Whoever
has loaded everything has it looked for again: `conftest` and `warm`.
"""

import gc

gc.disable()
