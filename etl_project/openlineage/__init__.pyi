from .sensor import sensors as sensors
from .telling import after_command as after_command
