"""Files of the archive that a changed contract leaves behind: all named at once, before anything is built under it."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from etl_project import settings
from etl_project.cli.main import app
from etl_project.sources import fit
from etl_project.sources.intake import archive
from etl_project.sources.reading.layout import Layout
from etl_project.sources.spec import SourceColumn, SourceSpec

from .world import SPEC, World, lines, spec

STRICT = spec(
    columns={**SPEC.columns, "device": "device"},
    types=(*SPEC.types, SourceColumn("device", "VARCHAR", nullable=False)),
)
ADDED = spec(columns={**SPEC.columns, "device": "device"}, types=(*SPEC.types, SourceColumn("device", "VARCHAR")))
RENAMED = spec(columns={**{name: to for name, to in SPEC.columns.items() if name != "note"}, "Note": "note"})


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Three files of two days, accepted under the first contract."""
    found = World(tmp_path)
    for name in ("a-2024-03-04.csv", "a-2024-03-05.csv", "b-2024-03-05.csv"):
        found.drop(name, lines(f"1,1.5,2024-03-04 10:00:00,{name}"))
    assert {one.outcome for one in found.receive()} == {"accepted"}
    return found


def names(world: World, source: SourceSpec, whole: bool = True) -> list[tuple[date, str]]:
    return [(one.day, one.name) for one in fit.unfit(source, world.archive, whole=whole)]


@pytest.mark.parametrize("whole", [True, False])
def test_every_file_that_no_longer_fits_is_named_and_no_other(world: World, whole: bool) -> None:
    everything = [
        (date(2024, 3, 4), "a-2024-03-04.csv"),
        (date(2024, 3, 5), "a-2024-03-05.csv"),
        (date(2024, 3, 5), "b-2024-03-05.csv"),
    ]
    assert names(world, SPEC, whole) == names(world, ADDED, whole) == []
    assert names(world, STRICT, whole) == names(world, RENAMED, whole) == everything
    kept = spec(columns={**RENAMED.columns, "note": "note"})
    assert names(world, kept, whole) == []


def test_a_look_says_why_and_where(world: World) -> None:
    one = next(fit.unfit(STRICT, world.archive))
    assert "missing 'device'" in one.why and one.path.is_file()


def test_what_only_the_end_of_a_large_file_shows_is_found_by_reading_it_whole(tmp_path: Path) -> None:
    world = World(tmp_path, spec(max_rejected_ratio=1.0))
    good = [f"{n},1.5,2024-03-04 10:00:00,{'x' * 50}" for n in range(150_000)]
    world.drop("a-2024-03-05.csv", lines(*good, *("x,1,," for _ in range(4000))))
    assert [one.outcome for one in world.receive()] == ["accepted"]
    assert names(world, SPEC) == [(date(2024, 3, 5), "a-2024-03-05.csv")]
    assert names(world, SPEC, whole=False) == []


def test_after_a_change_everything_is_looked_at_until_it_fits(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETL_DATA_DIR", str(world.root))
    configured = settings.load()
    looks: list[str] = []
    real = archive.accepted_days
    monkeypatch.setattr(archive, "accepted_days", lambda root, one: looks.append(one.name) or real(root, one))
    assert fit.after_a_change([SPEC], configured) == fit.after_a_change([SPEC], configured) == []
    assert looks == ["sales"], "the second look has nothing to look at"
    for _ in range(2):
        assert len(fit.after_a_change([STRICT], configured)) == 3
    assert fit.after_a_change([ADDED], configured) == []
    assert looks == ["sales"] * 4
    (configured.cache / "fit" / "sales").write_bytes(b"\xff")
    assert fit.after_a_change([ADDED], configured) == []
    assert looks == ["sales"] * 5


def test_unused_settings_are_no_change(world: World) -> None:
    assert repr(spec(layout=Layout())) == repr(SPEC)


def pipeline(folder: Path, columns: dict[str, str], contract: str, **words: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for package in (folder.parent, folder):
        (package / "__init__.py").touch()
    attributes = {"name": "visits", "patterns": ["{date}.csv"], "columns": columns, **words}
    defs = {"type": "etl_project.sources.component.FileSource", "attributes": attributes}
    (folder / "defs.yaml").write_text(yaml.safe_dump(defs))
    (folder / "contract.sql").write_text(f"CREATE TABLE visits (batch_date DATE NOT NULL, {contract})")


def test_drain_and_check_name_all_files_before_the_change_is_applied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = f"fit_pipelines_{tmp_path.name.replace('-', '_')}"
    folder = tmp_path / package / "visits"
    for name, value in {
        "ETL_DATA_DIR": str(tmp_path / "data"),
        "ETL_PIPELINES": package,
        "ETL_SETTLE_SECONDS": "0",
        "ETL_START_DATE": "2025-03-01",
        "COLUMNS": "200",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(tmp_path)
    incoming = tmp_path / "data" / "incoming" / "visits"
    incoming.mkdir(parents=True)

    def etl(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, arguments)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.output

    pipeline(folder, {"id": "id"}, "id BIGINT NOT NULL")
    for day in (19, 20):
        (incoming / f"2025-03-{day}.csv").write_text(f"id\n{day}\n")
    assert etl("drain")[0] == 0
    assert etl("contract", "check") == (0, "2 archived files of 1 sources, 0 do not fit any more\n")

    pipeline(folder, {"id": "id", "device": "device"}, "id BIGINT NOT NULL, device VARCHAR NOT NULL")
    (incoming / "2025-03-21.csv").write_text("id,device\n21,tv\n")
    code, said = etl("contract", "check", "visits")
    assert code == 1 and "2 archived files of 1 sources, 2 do not fit" in said
    assert "visits 2025-03-19 2025-03-19.csv: wrong columns: found missing 'device'" in said
    assert len(json.loads(etl("contract", "check", "--json")[1])["unfit"]) == 2
    code, said = etl("drain")
    assert code == 1
    assert said.index("does not fit any more visits 2025-03-20") < said.index("building 2025-03-21")
    assert "there is no source nothing; there are visits" in str(
        CliRunner().invoke(app, ["contract", "check", "nothing"]).exception
    )

    pipeline(folder, {"id": "id", "device": "device"}, "id BIGINT NOT NULL, device VARCHAR")
    assert etl("contract", "check")[0] == 0
    code, said = etl("drain")
    assert code == 0 and "does not fit" not in said
