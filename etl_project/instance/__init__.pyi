from . import home as home
from . import json_lines as json_lines
from . import json_logs as json_logs
from . import retention as retention
from .home import DataDirArtifactStorage as DataDirArtifactStorage
from .home import DataDirComputeLogManager as DataDirComputeLogManager
from .home import DataDirStorage as DataDirStorage
from .home import opened as opened
