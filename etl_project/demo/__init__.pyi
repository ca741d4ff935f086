from . import run as run
from . import sample as sample
from .topic import ThroughKafka as ThroughKafka
