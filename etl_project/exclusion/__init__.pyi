from . import processes as processes
from . import run_lock as run_lock
from .keeper import locks_at as locks_at
from .run_lock import RunLock as RunLock
