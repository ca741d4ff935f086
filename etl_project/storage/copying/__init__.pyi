from .table import Copied as Copied
from .whole import Report as Report
from .whole import copy_warehouse as copy_warehouse
