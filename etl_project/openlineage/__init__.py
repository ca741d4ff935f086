"""OpenLineage: what runs read and wrote, told to a server that collects lineage.

Other packages come in here; what they may use stands in `__init__.pyi`, and is loaded when it is used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
