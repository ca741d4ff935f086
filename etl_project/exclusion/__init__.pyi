from . import processes as processes
from . import run_lock as run_lock
from .jobs import LockBusy as LockBusy
from .keeper import locks_at as locks_at
from .run_lock import RunLock as RunLock
