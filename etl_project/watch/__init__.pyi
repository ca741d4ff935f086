from . import alerts_sensor as alerts_sensor
from . import calendar as calendar
from . import history as history
from . import lake_upkeep as lake_upkeep
from . import maintain as maintain
from . import status as status
from .alerts_sensor import left_failed_checks as left_failed_checks
from .doctor import examine as examine
