"""Which package holds the pipelines, and what is said where it cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from etl_project import definitions, settings
from etl_project.cli.demo import NotTheSample, refuse_other_pipelines
from etl_project.cli.new_source import NowhereToWrite, writable
from etl_project.due.snapshot import Project


def test_the_pipelines_are_the_samples_unless_a_package_of_ones_own_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ETL_PIPELINES", raising=False)
    assert definitions.pipelines().__name__ == "etl_project.pipelines"


@pytest.mark.parametrize(
    ("name", "says"), [("no.such.package", "No module named 'no'"), ("etl_nothing", "it has no __init__.py in")]
)
def test_a_package_that_cannot_be_used_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, says: str
) -> None:
    (tmp_path / "etl_nothing").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("ETL_PIPELINES", name)
    with pytest.raises(settings.SettingsError) as refused:
        definitions.pipelines()
    assert f"ETL_PIPELINES='{name}'" in str(refused.value) and says in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_the_demo_does_not_drop_its_files_among_the_pipelines_of_somebody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETL_DATA_DIR", str(tmp_path))
    with pytest.raises(NotTheSample, match="orders, payments is not among yours"):
        refuse_other_pipelines(Project(settings.load(), (), ()))


def test_nothing_is_written_into_an_installed_package() -> None:
    with pytest.raises(NowhereToWrite, match="say --to FOLDER"):
        writable(Path("/usr/lib/python3/dist-packages/etl_project/pipelines"))
    assert writable(Path("/home/me/shop/pipelines")) == Path("/home/me/shop/pipelines")
