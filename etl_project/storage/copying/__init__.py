"""Copying: the tables of one warehouse, with all that is known of them, into another one, whichever engines they have.

`whole` goes from table to table, `table` copies one in one transaction, `drawn` says what a table is in words that the
other engine takes, `kept` brings what is kept of replaced rows, `notes` knows what an earlier copy has written.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
