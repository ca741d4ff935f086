from . import processes as processes
from . import run_lock as run_lock
from .run_lock import RunLock as RunLock
