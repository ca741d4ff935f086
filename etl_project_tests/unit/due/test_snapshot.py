"""What a look finds, and how the definitions become the graph that `pending` sees."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

import dagster as dg
import pytest

from etl_project import utc
from etl_project.declare.daily_table import daily_partitions
from etl_project.due import snapshot
from etl_project.due.drain import drain
from etl_project.due.pending import Node, Window
from etl_project.due.sensor import pending_sensor
from etl_project.sources.intake import quarantine, scan
from etl_project.sources.spec import SourceSpec
from etl_project.watch.status import status
from etl_project_tests.projects import source_project

CONTRACT = "CREATE TABLE counts (batch_date DATE NOT NULL, units INTEGER NOT NULL);"
DEFS = {"name": "counts", "patterns": ["{date}.csv"], "columns": {"units": "units"}, "empty_days": "allowed"}


def test_a_drop_folder_that_cannot_be_read_changes_nothing_of_its_source_and_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with source_project(tmp_path, DEFS, CONTRACT, monkeypatch) as project:
        for day in ("03", "05"):
            project.drop(f"2025-03-{day}.csv", "units\n1\n")
        project.drain()
        project.drop("2025-03-04.csv", "units\n1\n")
        (project.data / "lake" / "raw_counts" / "batch_date=2025-03-04" / "data.parquet").unlink()

        def no_permission(folder: Path, _spec: SourceSpec, _now: datetime) -> scan.Scan:
            raise scan.CannotList(f"{folder}: no permission to list it")

        with monkeypatch.context() as patched:
            patched.setattr(scan, "scan", no_permission)
            done = drain(project.deployment)
            assert (done.runs, list(done.unreadable)) == (0, ["counts"]), "the file that waits there is not known"
        assert (project.drain().runs, done.failed) == (1, [])


def test_what_lies_beside_the_drop_folders_is_named_by_drain_and_sensor_and_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with source_project(tmp_path, DEFS, CONTRACT, monkeypatch) as project:
        project.drop("2025-03-03.csv", "units\n1\n")
        assert project.drain().held == []
        incoming = project.data / "incoming"
        nobodys = (".hidden", "being.tmp", "nothing/.x", ".Trash/2025-03-06.csv", "unpacking.part/2025-03-07.csv")
        for name in ("2025-03-04.csv", "conuts/sub/2025-03-05.csv", *nobodys):
            (incoming / name).parent.mkdir(parents=True, exist_ok=True)
            (incoming / name).write_text("units\n1\n")
        (incoming / "empty").mkdir()
        given = project.deployment
        for _ in range(2):
            done = project.drain()
            assert (done.runs, done.all_well) == (0, True)
            file, folder = done.held
            assert file == f"not taken in: 2025-03-04.csv, right in {incoming}. Put it into a source's folder there."
            told = f"not taken in: what lies in {incoming / 'conuts'}: no source has this name; did you mean counts/?"
            assert folder == told
            seen = snapshot.look(given.project, utc.now())
            assert seen.held_up == done.held
            told_by_status = status(given.project, given.instance, seen)
            assert ([*told_by_status.not_taken], told_by_status.gone) == (done.held, ())


def test_what_is_no_file_to_read_is_named_by_drain_status_and_sensor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with source_project(tmp_path, DEFS, CONTRACT, monkeypatch) as project:
        project.drop("2025-03-03.csv", "units\n1\n")
        folder = project.data / "incoming" / "counts"
        (folder / "2025-03-04.csv").symlink_to(folder / "2025-03-03.csv")
        (folder / "sub").symlink_to(tmp_path)
        os.mkfifo(folder / "2025-03-05.csv")
        done = project.drain()
        assert (done.runs, done.failed) == (1, []), "the files beside them are taken in"
        links, pipe = done.passed_over
        assert "counts: not taken in: 2025-03-04.csv, sub (a link" in links and "2025-03-05.csv (neither" in pipe
        given = project.deployment
        seen = snapshot.look(given.project, utc.now())
        assert status(given.project, given.instance, seen).sources[0].notices == (links, pipe)
        with dg.build_sensor_context(instance=given.instance) as context:
            skipped = pending_sensor(given.project, [*given.jobs.values()])(context)
        assert isinstance(skipped, dg.SkipReason) and links in (skipped.skip_message or "")


def test_a_drop_folder_that_was_removed_is_not_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with source_project(tmp_path, DEFS, CONTRACT, monkeypatch) as project:
        folder = project.data / "incoming" / "counts"
        snapshot.look(project.deployment.project, utc.now())
        assert not folder.exists(), "a look makes nothing"
        assert project.drain().unreadable == {}, "a source that has not sent anything yet needs no folder"
        assert folder.is_dir(), "a person finds where files go"
        project.drop("2025-03-03.csv", "units\n1\n")
        project.drain()
        (project.data / "incoming" / "counts").rename(tmp_path / "elsewhere")
        for _ in range(2):
            done = project.drain()
            assert (done.runs, list(done.unreadable)) == (0, ["counts"])
            assert "is not there any more" in done.unreadable["counts"] and not folder.exists()
        given = project.deployment
        seen = snapshot.look(given.project, utc.now())
        assert status(given.project, given.instance, seen).sources[0].notices == tuple(done.unreadable.values())
        (project.data / "incoming" / "counts").mkdir()
        assert project.drain().unreadable == {}


def test_one_file_without_a_day_that_cannot_be_moved_keeps_no_other_from_quarantine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with source_project(tmp_path, DEFS, CONTRACT, monkeypatch) as project:
        project.drop("first.csv", "units\n1\n")
        project.drop("second.csv", "units\n2\n")
        root = project.data / "quarantine"
        real = quarantine.put

        def put(root: Path, reason: quarantine.Reason, name: str, copy: Path) -> Path:
            if name == "first.csv":
                raise OSError(5, "Input/output error")
            return real(root, reason, name, copy)

        monkeypatch.setattr(quarantine, "put", put)
        project.drain()
        assert [one.name for one in quarantine.listing(root)] == ["second.csv"]
        monkeypatch.setattr(quarantine, "put", real)
        project.drain()
        assert {one.name for one in quarantine.listing(root)} == {"first.csv", "second.csv"}


def daily(name: str, **options: object) -> dg.AssetsDefinition:
    @dg.asset(name=name, partitions_def=daily_partitions(), **options)
    def body(**_inputs: object) -> object:
        """Rows."""
        return None

    return body


def nodes(*assets: dg.AssetsDefinition) -> dict[str, Node]:
    return {node.asset: node for node in snapshot.nodes(dg.Definitions(assets=assets))}


def test_an_asset_that_reads_its_own_earlier_days_is_built_in_order_one_day_a_run() -> None:
    before = dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=-1)
    own = daily("balance", deps=[dg.AssetDep("balance", partition_mapping=before), "orders"])
    found = nodes(daily("orders"), own)["balance"]
    assert found.follows_inputs is True
    assert (found.itself, found.most_keys_a_run, found.upstream) == (Window(-1, -1), 1, ("orders",))


def test_a_window_reads_the_days_that_its_mapping_reads() -> None:
    def window(**options: bool) -> Window:
        mapping = dg.TimeWindowPartitionMapping(start_offset=-2, end_offset=0, **options)
        week = daily("week", ins={"orders": dg.AssetIn("orders", partition_mapping=mapping)})
        return nodes(daily("orders"), week)["week"].windows["orders"]

    assert window() == Window(-2, 0)
    assert window(allow_nonexistent_upstream_partitions=True) == Window(-2, 0, may_not_exist=True)
