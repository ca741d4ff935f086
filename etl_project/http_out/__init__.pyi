from . import settings as settings
from .assets import ALERT as ALERT
from .assets import delivery_definitions as delivery_definitions
from .assets import failed_runs as failed_runs
from .client import DeliveryFailed as DeliveryFailed
from .client import DeliveryRejected as DeliveryRejected
from .resource import Delivery as Delivery
