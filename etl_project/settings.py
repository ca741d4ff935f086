"""Settings: every path, URL and environment variable of the project, in one place, validated when loaded.

Belongs here: reading the environment and naming the folders under the data folder. Does not belong here: creating or
opening any of them, but for the data folder itself, which is made when it is not there. Every variable is read in this
one module, however long: a test holds it against docs/settings.md.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from math import inf
from pathlib import Path
from typing import Any, Literal

from etl_project.failures import Permanent

MEMORY_LIMIT = "ETL_MEMORY_LIMIT_MB"
LEAST_MEMORY_MB = 128
"""DuckDB writes nothing worth the name with less."""

WAREHOUSE_URL = "ETL_WAREHOUSE"
_DUCKDB = "duckdb:///"
_LAKE = "ducklake:postgres:"
_DATABASE = ("postgresql://", "postgres://")
_DATABASE_EXAMPLE = "postgresql://etl@db.example.com/warehouse"
_LAKE_EXAMPLE = f"{_LAKE}dbname=warehouse host=db.example.com user=etl"

OPENLINEAGE_URL, OPENLINEAGE_KEY = "ETL_OPENLINEAGE_URL", "ETL_OPENLINEAGE_API_KEY"

LAKE_URL = "ETL_LAKE"
INCOMING_URL = "ETL_INCOMING"
_BUCKET_EXAMPLE = "s3://bucket/prefix"
_INCOMING_EXAMPLE = "s3://bucket/incoming"
_BUCKET = re.compile(r"s3a?://", re.IGNORECASE)
_ANY_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")

_BESIDE: tuple[Literal["archive"], Literal["quarantine"]] = ("archive", "quarantine")

STATE_FILE = "state.sqlite"
LOCKS_URL = "ETL_LOCKS"
_LOCKS_EXAMPLE = "postgresql://etl@db.example.com/etl"
_POSTGRES = re.compile(r"postgres(?:ql)?://", re.IGNORECASE)
LEASE_SECONDS = 45.0
"""Shorter than the usual wait: what a machine held that died is free before those who wait give up."""
LEAST_LEASE_SECONDS = 1.0

MOST_PREVIEW_ROWS = 100
"""Previews are kept with every event for good."""

MOST_VERSIONS = 1000
"""Every version of a day is all of its rows once more."""

MOST_DAYS = 100_000

MOST_WATCH_SECONDS = 30.0
"""Dagster ends an evaluation after a minute, and a look before and one after the wait have to fit in, too."""

CONFIRM_DAYS = 31
"""A month is a usual backfill; more of it deserves a second look."""

NAMES = (
    *("ETL_DATA_DIR", "ETL_START_DATE", "ETL_SETTLE_SECONDS", "ETL_QUIET_SECONDS", "ETL_OPEN_DAY_INTERVAL_SECONDS"),
    *(
        "ETL_SENSOR_INTERVAL_SECONDS",
        "ETL_WATCH_SECONDS",
        "ETL_WAIT_SECONDS",
        "ETL_MEMORY_LIMIT_MB",
        "ETL_PREVIEW_ROWS",
    ),
    *("ETL_KEEP_VERSIONS", "ETL_HISTORY_DAYS", "ETL_LOG_FORMAT", "ETL_PIPELINES", "ETL_FAULT"),
    *("ETL_WAREHOUSE", "ETL_WAREHOUSE_DATA", "ETL_LAKE", "ETL_INCOMING", "ETL_CONFIRM_DAYS"),
    *("ETL_LOCKS", "ETL_LOCKS_LEASE_SECONDS", "ETL_BROKER", "ETL_RESULTS", "ETL_DAYS_PER_RUN"),
    *(OPENLINEAGE_URL, OPENLINEAGE_KEY, "ETL_OPENLINEAGE_NAMESPACE"),
)
"""Every variable of the project as a whole; a test holds them against docs/settings.md."""
PREFIXES = ("ETL_KAFKA_", "ETL_SCHEMA_REGISTRY_", "ETL_DELIVERY_", "ETL_RECEIVER_", "ETL_TEST_")
"""Variables whose names their own parts check."""
_SECRET = re.compile(
    r"TOKEN|SECRET|PASSWORD|CREDENTIAL|API_KEY|DELIVERY_URL|_DSN|ETL_WAREHOUSE\Z|ETL_LOCKS\Z|ETL_BROKER\Z|ETL_RESULTS\Z"
    r"|DAGSTER_POSTGRES_URL\Z",
    re.IGNORECASE,
)

_HOLDS_PASSWORD = re.compile(r"passw(or)?d\s*=|://[^/\s]*:[^/\s]*@", re.IGNORECASE)


def is_secret(name: str, value: str = "") -> bool:
    """Whether the value of a variable must not be shown: by its name, or because it has a password in it."""
    return _SECRET.search(name) is not None or _HOLDS_PASSWORD.search(value) is not None


class SettingsError(Permanent):
    """A setting cannot be used. The message is one line that names the variable, its value and what would do."""


@dataclass(frozen=True)
class Settings:
    """Where everything lives and how patient it is. All state is under `data_dir`."""

    data_dir: Path
    start_date: date
    """No file of an earlier day is accepted."""
    begins_with_data: bool
    """Whether the set of days begins with the data; else with `start_date`."""
    settle_seconds: float
    quiet_seconds: float
    open_day_interval_seconds: float
    sensor_interval_seconds: int
    watch_seconds: float
    """So long a tick of the sensor that asks for nothing waits for files; 0: not at all."""
    wait_seconds: float
    preview_rows: int
    memory_limit_mb: int | None = None
    """What one DuckDB may hold at once (MB); None leaves it to each store."""
    keep_versions: int = 0
    """Replaced versions of each day that stay, where an asset does not say otherwise."""
    keep_versions_days: int | None = None
    """And of those only what was replaced within so many days."""
    history_days: int | None = None
    """How long Dagster's history is kept by a job of its own; None: for good, unless somebody asks."""
    confirm_days: int = CONFIRM_DAYS
    """So many days a command builds again without asking."""
    days_per_run: int | None = None
    """So many days a run takes at the most, None for as many as are due: what workers can share."""
    warehouse_url: str | None = field(default=None, repr=False)
    """The address of a warehouse that other machines share, None for a DuckDB file. It may hold a password."""
    warehouse_data: str | None = None
    """Where the files of such a warehouse lie: a folder, or the address of a bucket."""
    warehouse_file: Path | None = None
    """The DuckDB file, where it is not the one in the data folder."""
    lake_url: str | None = None
    """The bucket and prefix of a lake that other machines share, None for a folder."""
    lake_folder: Path | None = None
    """The folder of the lake, where it is not the one in the data folder."""
    incoming_url: str | None = None
    """The bucket and prefix from which objects are fetched into the drop folders, None for none."""
    locks_url: str | None = field(default=None, repr=False)
    """The server with the task locks of several machines, None for a file of this one. It may hold a password."""
    lease_seconds: float = LEASE_SECONDS
    """After so long without a sign of life another machine's run loses its locks on such a server."""
    openlineage_url: str | None = field(default=None, repr=False)
    """Where OpenLineage events go, None for nowhere."""
    openlineage_key: str | None = field(default=None, repr=False)
    openlineage_namespace: str = "etl"

    @property
    def incoming(self) -> Path:
        """Drop folder: `incoming/<source>/`."""
        return self.data_dir / "incoming"

    def beside_incoming(self, name: Literal["archive", "quarantine"]) -> str:
        """The address beside that of what comes into a bucket, where objects go that were taken in, or refused."""
        return f"{str(self.incoming_url).rpartition('/')[0]}/{name}"

    @property
    def archive(self) -> Path:
        """Accepted file versions, for good: the input of every rebuild."""
        return self.data_dir / "archive"

    @property
    def quarantine(self) -> Path:
        """Refused files, each with a reason file beside it."""
        return self.data_dir / "quarantine"

    @property
    def dead_letters(self) -> Path:
        """Kafka messages that could not become rows, `dead_letters/<source>/`, and records of lost offsets."""
        return self.data_dir / "dead_letters"

    @property
    def lake(self) -> Path | str:
        """Parquet, one file a day and asset: a folder, or the address of a bucket. Ask `declare.lake` for the store."""
        return self.lake_url or self.lake_folder or self.data_dir / "lake"

    @property
    def is_postgres(self) -> bool:
        """Whether the tables are in PostgreSQL itself."""
        return self.warehouse_url is not None and self.warehouse_url.startswith(_DATABASE)

    @property
    def warehouse(self) -> Path:
        """The DuckDB file with the tables and their commit records. Ask `declare.warehouse` for the store itself.

        Raises SettingsError where the warehouse is none: a file made here would be one that nobody looks at.
        """
        if self.warehouse_url is not None:
            raise SettingsError(f"{WAREHOUSE_URL} names a warehouse that is no DuckDB file; this needs one.")
        return self.warehouse_file or self.data_dir / "warehouse.duckdb"

    @property
    def state(self) -> Path:
        """SQLite: the task lock of this machine; nothing in it says what is done."""
        return self.data_dir / STATE_FILE

    @property
    def cache(self) -> Path:
        """What only makes looking faster; it may be removed at any time."""
        return self.data_dir / "cache"

    @property
    def dagster_home(self) -> Path:
        """Dagster's own run and event storage."""
        return self.data_dir / "dagster"


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from the environment, or a clear line for each variable that is wrong, which says what would do."""
    env = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    wrong: dict[str, None] = {}  # In order, and each once.
    for read in _READ:
        try:
            values |= read(env)
        except SettingsError as error:
            wrong[str(error)] = None
    if wrong:
        raise SettingsError("\n".join(wrong))
    loaded = Settings(**values)
    _refuse_one_in_another(loaded)
    return loaded


def _folder(env: Mapping[str, str]) -> dict[str, Any]:
    data_dir = _data_dir(env)
    _refuse_unusable_name(data_dir)
    _refuse_unusable(data_dir)
    return {"data_dir": data_dir}


def _logs(env: Mapping[str, str]) -> dict[str, Any]:
    log_format(env)
    return {}


def _first_day(env: Mapping[str, str]) -> dict[str, Any]:
    return {"start_date": start_date(env), "begins_with_data": not env.get("ETL_START_DATE")}


def _settling(env: Mapping[str, str]) -> dict[str, Any]:
    settle_seconds = _seconds(env, "ETL_SETTLE_SECONDS", 1.0)
    # Who says that a file is complete the moment it appears has senders that rename: nothing grows afterwards.
    quiet_seconds = _seconds(env, "ETL_QUIET_SECONDS", 600.0 if settle_seconds else 0.0)
    return {"settle_seconds": settle_seconds, "quiet_seconds": quiet_seconds}


def _confirm_days(env: Mapping[str, str]) -> int:
    asked = _days(env, "ETL_CONFIRM_DAYS", 0, CONFIRM_DAYS)
    return CONFIRM_DAYS if asked is None else asked


def state_file(environ: Mapping[str, str] | None = None) -> Path:
    """`Settings.state`; as `locks`, and nothing is made."""
    return _data_dir(os.environ if environ is None else environ) / STATE_FILE


def _data_dir(env: Mapping[str, str]) -> Path:
    return Path(env.get("ETL_DATA_DIR") or "data").absolute()


def at_warehouse(configured: Settings, url: str, data: str | None) -> Settings:
    """The same settings with another warehouse: its address and, of a DuckLake, where its files lie.

    Raises SettingsError, as for the variables.
    """
    named = _warehouse({WAREHOUSE_URL: url, **({} if data is None else {"ETL_WAREHOUSE_DATA": data})})
    return replace(configured, **{"warehouse_url": None, "warehouse_data": None, "warehouse_file": None, **named})


def _warehouse(env: Mapping[str, str]) -> dict[str, Any]:
    """Where the warehouse is. What is wrong with an address is said without it: it may hold a password."""
    url, data = env.get(WAREHOUSE_URL) or "", env.get("ETL_WAREHOUSE_DATA") or None
    if url.startswith(_LAKE):
        if data is None:
            raise SettingsError(
                f"ETL_WAREHOUSE_DATA is not set, and {WAREHOUSE_URL} names a DuckLake: say where its files lie, a "
                "folder that every machine sees, like /mnt/warehouse, or s3://bucket/prefix."
            )
        return {"warehouse_url": url, "warehouse_data": data}
    if data is not None:
        raise SettingsError(
            f"ETL_WAREHOUSE_DATA={data!r} is for a DuckLake, and {WAREHOUSE_URL} names none; unset it, or write "
            f"{WAREHOUSE_URL}={_LAKE_EXAMPLE}."
        )
    if url.startswith(_DATABASE):
        return {"warehouse_url": url}
    path = url.removeprefix(_DUCKDB)
    if url and (not url.startswith(_DUCKDB) or not path.strip() or ":" in path):
        raise SettingsError(
            f"{WAREHOUSE_URL} names no warehouse; write {_DUCKDB}PATH for a DuckDB file, {_DATABASE_EXAMPLE}, or "
            f"{_LAKE_EXAMPLE}."
        )
    return {"warehouse_file": Path(path).expanduser().absolute()} if url else {}


def _lake(env: Mapping[str, str]) -> dict[str, Any]:
    """Where the lake is. What may be a key in an address is not shown."""
    said = (env.get(LAKE_URL) or "").removeprefix("file://")
    if not said:
        return {}
    if not _ANY_URL.match(said):
        return {"lake_folder": Path(said).expanduser().absolute()}
    problem = _why_no_bucket(said)
    if problem is not None:
        raise SettingsError(f"{LAKE_URL} {problem}; write a path, like /mnt/lake, or {_BUCKET_EXAMPLE}.")
    return {"lake_url": said.rstrip("/")}


def _why_no_bucket(said: str) -> str | None:
    """Why this is no address of a bucket and a prefix in it; None where it is one."""
    bucket, _, prefix = said.partition("://")[2].partition("/")
    if not _BUCKET.match(said):
        return f"is the address of a {said.partition(':')[0]!r} service" if _ANY_URL.match(said) else "names no bucket"
    if re.search(r"[@?#%\\\s]", said):
        return "has more than a bucket and a prefix in it (if that is a key: it belongs into AWS_ variables)"
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}", bucket):
        return "names no bucket"
    if any(part in ("", ".", "..") for part in prefix.strip("/").split("/")) and prefix.strip("/"):
        return "has a prefix with an empty part, . or .. in it"
    return None


def _incoming(env: Mapping[str, str]) -> str | None:
    """Where objects come in. The archive and the quarantine lie beside the prefix, so that there has to be one."""
    said = (env.get(INCOMING_URL) or "").rstrip("/")
    if not said:
        return None
    problem = _why_no_bucket(said)
    prefix = said.partition("://")[2].partition("/")[2]
    if problem is None and not prefix:
        problem = "has no prefix, and `archive` and `quarantine` lie beside it"
    elif problem is None and prefix.rpartition("/")[2] in _BESIDE:
        problem = f"ends in {prefix.rpartition('/')[2]!r}, where what was taken in goes"
    if problem is not None:
        raise SettingsError(
            f"{INCOMING_URL} {problem}; write it like {_INCOMING_EXAMPLE}. Files that come into a folder come into "
            "`incoming` in the data folder, which needs no setting."
        )
    return said


def _refuse_one_in_another(loaded: Settings) -> None:
    """What comes into a bucket must not lie among tables, nor tables among what comes in."""
    if loaded.incoming_url is None:
        return
    own = [loaded.incoming_url, *(loaded.beside_incoming(name) for name in _BESIDE)]
    for variable, url in ((LAKE_URL, loaded.lake_url), ("ETL_WAREHOUSE_DATA", loaded.warehouse_data)):
        other = f"{url or ''}/".partition("://")[2]
        mine = [f"{one}/".partition("://")[2] for one in own]
        if other and any(one.startswith(other) or other.startswith(one) for one in mine):
            raise SettingsError(
                f"{INCOMING_URL}, with `archive` and `quarantine` beside it, and {variable} lie one in another; give "
                f"each a prefix of its own, like {_INCOMING_EXAMPLE} and s3://bucket/tables."
            )


def locks(environ: Mapping[str, str] | None = None) -> str | None:
    """Where the task locks of several machines are. On its own because whoever judges a run has nothing else to load.

    What is wrong with an address is said without it: it may hold a password.
    """
    url = (os.environ if environ is None else environ).get(LOCKS_URL) or None
    if url is not None and not _POSTGRES.match(url):
        raise SettingsError(
            f"{LOCKS_URL} names no PostgreSQL database; write {_LOCKS_EXAMPLE} (the password in PGPASSWORD or "
            "~/.pgpass), or unset it where only one machine takes part."
        )
    return url


def lease_seconds(environ: Mapping[str, str] | None = None) -> float:
    """How long a run on another machine keeps its locks without a sign of life; as `locks`."""
    env = os.environ if environ is None else environ
    seconds = _seconds(env, "ETL_LOCKS_LEASE_SECONDS", LEASE_SECONDS)
    if seconds < LEAST_LEASE_SECONDS:
        raise SettingsError(f"ETL_LOCKS_LEASE_SECONDS={seconds:g} is too short; write {LEAST_LEASE_SECONDS:g} or more.")
    return seconds


def _openlineage(env: Mapping[str, str]) -> dict[str, Any]:
    """Where OpenLineage events go. What is wrong with an address or a key is said without it."""
    url, key = env.get(OPENLINEAGE_URL) or None, env.get(OPENLINEAGE_KEY) or None
    if url is not None and not re.fullmatch(r"https?://[\w.:\[\]-]+(/[!-~]*)?", url, re.ASCII | re.IGNORECASE):
        raise SettingsError(
            f"{OPENLINEAGE_URL} is no address of a server; write it like https://marquez.example.com:5000 (a key into "
            f"{OPENLINEAGE_KEY}, no user and no password)."
        )
    if key is not None and not re.fullmatch(r"[!-~]+", key):
        raise SettingsError(f"{OPENLINEAGE_KEY} cannot travel in a header; use visible ASCII without spaces.")
    namespace = env.get("ETL_OPENLINEAGE_NAMESPACE") or "etl"
    return {"openlineage_url": url, "openlineage_key": key, "openlineage_namespace": namespace}


def start_date(environ: Mapping[str, str] | None = None) -> date:
    """The first day (UTC) that files may have. On its own because assets need it when they are declared."""
    return _date(os.environ if environ is None else environ, "ETL_START_DATE", "2010-12-01")


def pipelines(environ: Mapping[str, str] | None = None) -> str:
    """The name of the package whose folders are the pipelines: one's own where this one is installed."""
    return (os.environ if environ is None else environ).get("ETL_PIPELINES") or "etl_project.pipelines"


def log_format(environ: Mapping[str, str] | None = None) -> Literal["text", "json"]:
    """How runs and commands log. On its own because it is needed before anything can be logged."""
    text = (os.environ if environ is None else environ).get("ETL_LOG_FORMAT") or "text"
    if text == "json":
        return "json"
    if text != "text":
        raise SettingsError(f"ETL_LOG_FORMAT={text!r} is no log format; write text or json.")
    return "text"


def _refuse_unusable_name(folder: Path) -> None:
    """Dagster addresses its files by URL, where a question mark ends the path, and stores paths as UTF-8 text."""
    text = str(folder)
    if "?" in text:
        raise SettingsError(
            f"ETL_DATA_DIR={text!r} has a question mark in its path, which Dagster's SQLite files cannot have; "
            "name a folder without one, like data."
        )
    if not text.isprintable():
        raise SettingsError(
            f"ETL_DATA_DIR={text!r} has letters that cannot be printed or are no UTF-8; name another folder, like data."
        )


def _refuse_unusable(folder: Path) -> None:
    """The folder has to be there, or to be made, and has to let us write."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"ETL_DATA_DIR={folder} cannot be made: {error.strerror}; name another folder.") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise SettingsError(f"ETL_DATA_DIR={folder}: no permission to write there; choose another folder.")


def _date(env: Mapping[str, str], name: str, default: str) -> date:
    text = env.get(name) or default
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise SettingsError(f"{name}={text!r} is not a date; write it as YYYY-MM-DD, like {default}.") from None


def _seconds(env: Mapping[str, str], name: str, default: float, most: float = inf) -> float:
    text = env.get(name) or str(default)
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= most or seconds == inf:
        what = "0 or more" if most == inf else f"0 to {most:g}"
        raise SettingsError(f"{name}={text!r} is not a number of seconds; write {what}, like {default:g}.")
    return seconds


def _rows(env: Mapping[str, str], name: str, default: int) -> int:
    text = env.get(name) or str(default)
    if not text.isascii() or not text.isdigit() or int(text) > MOST_PREVIEW_ROWS:
        raise SettingsError(f"{name}={text!r} is no number of rows; write 0 to {MOST_PREVIEW_ROWS}, like {default}.")
    return int(text)


def _versions(env: Mapping[str, str], name: str) -> dict[str, Any]:
    text = env.get(name) or "0"
    kept = versions_kept(int(text) if text.isascii() and text.isdigit() else text)
    if kept is None:
        like = f"write 0 to {MOST_VERSIONS}, like 3, or an age, like 30d"
        raise SettingsError(f"{name}={text!r} is no number of versions; {like}.")
    return {"keep_versions": kept[0], "keep_versions_days": kept[1]}


def versions_kept(said: Any) -> tuple[int, int | None] | None:
    """How many replaced versions stay, and for how many days, of `3`, `30d` or `8w`; None for anything else."""
    if isinstance(said, int) and not isinstance(said, bool) and 0 <= said <= MOST_VERSIONS:
        return said, None
    age = re.fullmatch(r"([0-9]{1,6})([dw])", said) if isinstance(said, str) else None
    days = int(age[1]) * (7 if age[2] == "w" else 1) if age else 0
    return (MOST_VERSIONS, days) if 1 <= days <= MOST_DAYS else None


def _days(env: Mapping[str, str], name: str, least: int = 1, like: int = 90) -> int | None:
    text = env.get(name)
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or not least <= int(text) <= MOST_DAYS:
        raise SettingsError(f"{name}={text!r} is no number of days; write {least} or more, like {like}.")
    return int(text)


def _megabytes(env: Mapping[str, str], name: str) -> int | None:
    text = env.get(name)
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or int(text) < LEAST_MEMORY_MB:
        raise SettingsError(f"{name}={text!r} is no number of megabytes; write {LEAST_MEMORY_MB} or more, like 2048.")
    return int(text)


def _one(name: str, read: Callable[[Mapping[str, str]], Any]) -> Callable[[Mapping[str, str]], dict[str, Any]]:
    return lambda env: {name: read(env)}


_READ: tuple[Callable[[Mapping[str, str]], dict[str, Any]], ...] = (
    *(_folder, _logs, _first_day, _settling, _warehouse, _lake, _openlineage),
    _one("open_day_interval_seconds", lambda env: _seconds(env, "ETL_OPEN_DAY_INTERVAL_SECONDS", 300.0)),
    _one("sensor_interval_seconds", lambda env: max(1, round(_seconds(env, "ETL_SENSOR_INTERVAL_SECONDS", 2.0)))),
    _one("watch_seconds", lambda env: _seconds(env, "ETL_WATCH_SECONDS", 9.0, most=MOST_WATCH_SECONDS)),
    _one("wait_seconds", lambda env: _seconds(env, "ETL_WAIT_SECONDS", 60.0)),
    _one("preview_rows", lambda env: _rows(env, "ETL_PREVIEW_ROWS", 5)),
    _one("memory_limit_mb", lambda env: _megabytes(env, MEMORY_LIMIT)),
    lambda env: _versions(env, "ETL_KEEP_VERSIONS"),
    _one("history_days", lambda env: _days(env, "ETL_HISTORY_DAYS")),
    _one("confirm_days", _confirm_days),
    _one("days_per_run", lambda env: _days(env, "ETL_DAYS_PER_RUN", like=10)),
    _one("incoming_url", _incoming),
    _one("locks_url", locks),
    _one("lease_seconds", lease_seconds),
)
"""What reads the settings, each on its own: a wrong one hides no other."""
