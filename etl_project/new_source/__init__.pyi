from .make import Made as Made
from .make import make as make
from .sample import CannotUse as CannotUse
