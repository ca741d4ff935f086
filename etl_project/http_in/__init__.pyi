from . import receiver as receiver
from . import settings as settings
from .database import Database as Database
from .settings import header_safe as header_safe
from .settings import number as number
from .settings import refuse_misspelt as refuse_misspelt
from .settings import whole as whole
