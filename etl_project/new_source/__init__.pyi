from .containers import CannotUse as CannotUse
from .make import Made as Made
from .make import make as make
