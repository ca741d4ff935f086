"""Objects come into the drop folder once, and leave the bucket only when their bytes are where they belong."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from etl_project import settings
from etl_project.sources.bucket import owner
from etl_project.sources.bucket.handed import FETCHED
from etl_project.sources.intake import admit
from etl_project_tests import s3, s3_proxy
from etl_project_tests.s3_proxy import Asked, Proxy, refused
from etl_project_tests.unit.sources.bucket_world import BucketWorld
from etl_project_tests.unit.sources.intake import test_many_days as many_days
from etl_project_tests.unit.sources.world import SPEC, rows

pytestmark = s3.needed

A, B = "a-2024-03-05.csv", "x/b-2024-03-05.csv"
BAD = b"no header\n"


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    with s3_proxy.running(monkeypatch) as running:
        yield running


@pytest.fixture
def world(proxy: Proxy, tmp_path: Path) -> BucketWorld:
    return BucketWorld(tmp_path)


def version(number: int, name: str, content: bytes) -> dict[str, bytes]:
    return {f"sales/2024-03-05/{name}/{number:06d}-{hashlib.sha256(content).hexdigest()}": content}


def asks(method: str, name: str = A) -> Callable[[Asked], bool]:
    return lambda asked: asked.method == method and asked.path.partition("?")[0].endswith(f"/incoming/sales/{name}")


def puts_into(place: str) -> Callable[[Asked], bool]:
    return lambda asked: asked.method == "PUT" and f"/{place}/sales/" in asked.path


def meanwhile(proxy: Proxy, which: Callable[[Asked], bool], do: Callable[[], object]) -> None:
    """Do something right before the first of these requests is carried out."""
    left = [do]

    def plan(asked: Asked) -> s3_proxy.Way:
        if left and which(asked):
            left.pop()()
        return None

    proxy.plan = plan


def test_an_accepted_object_lies_in_the_archive_of_the_bucket_and_has_left(world: BucketWorld) -> None:
    world.drop(A, rows(3))
    world.drop(B, rows(2))
    assert world.outcomes() == {A: "accepted", B: "accepted"}
    assert world.archived() == {
        str(one.path.relative_to(world.archive)): one.path.read_bytes() for one in world.archive_of_day()
    }
    assert world.waiting() == [] == world.files() and world.refused() == {}
    done = world.fetch()
    assert (done.placed, done.archived, done.refused, done.told) == (0, 0, 0, [])


def test_a_refused_object_lies_in_the_quarantine_of_the_bucket_with_its_reason(world: BucketWorld) -> None:
    world.drop(A, BAD)
    assert world.outcomes() == {A: "refused"}
    [key] = [entry.reason.key for entry in world.quarantined()]
    found = world.refused()
    assert set(found) == {f"sales/2024-03-05/{key}.json", f"sales/2024-03-05/{key}/{A}"}
    assert found[f"sales/2024-03-05/{key}/{A}"] == BAD
    assert json.loads(found[f"sales/2024-03-05/{key}.json"])["reason"] == "wrong columns"
    assert world.waiting() == [] and world.archived() == {}


def test_an_object_stays_in_the_bucket_until_its_file_is_judged(world: BucketWorld) -> None:
    world.drop(A, rows(3))
    for placed in (1, 0, 0):
        assert world.fetch().placed == placed, "handed over once"
        assert world.waiting() == [A] and world.archived() == {}
    world.receive()
    assert world.waiting() == []


def test_a_newer_object_waits_for_the_one_before_and_both_are_kept(world: BucketWorld) -> None:
    world.drop(A, rows(3))
    world.fetch()
    world.drop(A, rows(4))
    world.fetch()
    assert (world.folder / A).read_bytes() == rows(3)
    world.receive()
    assert world.waiting() == [A] and (world.folder / A).read_bytes() == rows(4), "fetched by the same pass"
    world.drop(A, rows(3))
    world.receive()
    world.receive()
    assert world.archived() == version(1, A, rows(3)) | version(2, A, rows(4)) | version(3, A, rows(3))
    assert world.waiting() == []


def test_an_object_that_is_replaced_while_it_is_read_is_fetched_as_the_new_one(
    proxy: Proxy, world: BucketWorld
) -> None:
    world.drop(A, rows(3))
    meanwhile(proxy, asks("GET"), lambda: world.drop(A, rows(4)))
    done = world.fetch()
    assert done.placed == 0 and "replaced or removed" in done.told[0] and world.files() == []
    world.receive()
    assert world.archived() == version(1, A, rows(4)) and world.waiting() == []


@pytest.mark.parametrize("has_conditions", [True, False])
def test_an_object_that_is_replaced_before_it_is_removed_stays(
    proxy: Proxy, world: BucketWorld, has_conditions: bool
) -> None:
    """Where the server has no DELETE with a condition, the object is looked at once more."""
    world.drop(A, rows(3))
    world.fetch()
    before = asks("DELETE") if has_conditions else lambda asked: asks("GET")(asked) and asked.is_of_a_part
    left = [True]

    def plan(asked: Asked) -> s3_proxy.Way:
        if left and before(asked):
            left.pop()
            world.drop(A, rows(4))
        return s3_proxy.UNCONDITIONALLY if asked.method == "DELETE" and not has_conditions else None

    proxy.plan = plan
    world.receive()
    assert world.places.removal.keeps_conditions() is has_conditions
    assert not left and world.archived() == version(1, A, rows(3)) and world.waiting() == [A]
    world.receive()
    assert world.archived() == version(1, A, rows(3)) | version(2, A, rows(4)) and world.waiting() == []


LISTINGS: Callable[[Asked], bool] = lambda asked: asked.is_listing  # noqa: E731


@pytest.mark.parametrize(
    ("which", "way"),
    [
        pytest.param(asks("GET"), s3_proxy.CUT_WITHIN, id="read, cut within"),
        pytest.param(asks("GET"), refused(500, "InternalError"), id="read, 500"),
        pytest.param(asks("DELETE"), s3_proxy.CUT_AFTER, id="removal, cut after"),
        pytest.param(asks("DELETE"), refused(503, "SlowDown"), id="removal, 503"),
        pytest.param(puts_into("archive"), s3_proxy.CUT_AFTER, id="archive, cut after"),
        pytest.param(puts_into("archive"), refused(500, "InternalError"), id="archive, 500"),
        pytest.param(puts_into("quarantine"), s3_proxy.CUT_BEFORE, id="quarantine, cut before"),
        pytest.param(LISTINGS, refused(503, "SlowDown"), id="listing, 503"),
    ],
)
def test_a_request_that_fails_once_changes_nothing_about_the_end(
    proxy: Proxy, world: BucketWorld, way: s3_proxy.Way, which: Callable[[Asked], bool]
) -> None:
    world.drop(A, rows(3))
    world.drop(B, BAD)
    proxy.once(way, which)
    world.try_to_fetch()
    proxy_left, proxy.plan = proxy.plan, lambda asked: None
    world.receive_what_is_there()
    proxy.plan = proxy_left
    world.try_to_fetch()
    proxy.plan = lambda asked: None
    world.receive()
    assert world.archived() == version(1, A, rows(3)) and len(world.refused()) == 2
    assert world.waiting() == [] == world.files()
    assert [(one.name, one.sequence) for one in world.archive_of_day()] == [(A, 1)]


@pytest.mark.parametrize(
    ("which", "way", "said"),
    [
        pytest.param(asks("GET"), refused(403, "AccessDenied"), "s3:GetObject", id="read, rights"),
        pytest.param(asks("GET"), refused(403, "RequestTimeTooSkewed"), "time server", id="read, clock"),
        pytest.param(asks("DELETE"), refused(403, "AccessDenied"), "s3:DeleteObject", id="removal, rights"),
        pytest.param(asks("DELETE"), refused(400, "ExpiredToken"), "AWS_SESSION_TOKEN", id="removal, token"),
        pytest.param(asks("DELETE"), refused(404, "NoSuchBucket"), "no such bucket", id="removal, bucket"),
        pytest.param(
            puts_into("archive"), refused(403, "SignatureDoesNotMatch"), "AWS_SECRET_ACCESS_KEY", id="archive, secret"
        ),
    ],
)
def test_a_request_that_is_refused_is_one_line_and_nothing_is_lost(
    proxy: Proxy, world: BucketWorld, way: s3_proxy.Way, said: str, which: Callable[[Asked], bool]
) -> None:
    world.drop(A, rows(3))
    proxy.always(way, which)
    problems = world.try_to_fetch().problems
    world.receive_what_is_there()
    problems += world.try_to_fetch().problems
    assert problems and all(said in line and "\n" not in line and "etrying helps" in line for line in problems)
    for secret in (os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"], "X-Amz"):
        assert secret not in "".join(problems)
    assert world.waiting() == [A] and not list(world.folder.rglob("*.copy"))
    proxy.plan = lambda asked: None
    world.receive()
    assert world.archived() == version(1, A, rows(3)) and world.waiting() == [] == world.files()


def test_a_name_that_cannot_be_listed_is_told_and_other_sources_go_on(proxy: Proxy, world: BucketWorld) -> None:
    listing = (
        "<?xml version='1.0'?><ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>"
        f"{world.url.partition('://')[2].partition('/')[2]}/sales//a.csv</Key><Size>1</Size><ETag>1</ETag>"
        "<LastModified>2024-03-05T10:00:00.000Z</LastModified></Contents></ListBucketResult>"
    )
    world.drop(A, rows(3))
    proxy.always((200, listing), lambda asked: asked.is_listing)
    [problem] = world.try_to_fetch().problems
    assert "cannot be listed" in problem and "//" in problem and "\n" not in problem
    proxy.plan = lambda asked: None
    world.receive()
    assert world.waiting() == []


@pytest.mark.parametrize("files_per_day", ["latest", "every"])
def test_an_object_whose_rows_are_of_many_days_is_sent_back_as_it_came(world: BucketWorld, files_per_day: str) -> None:
    world.spec = many_days.spec(files_per_day=files_per_day)
    contents = [
        many_days.text("1,2024-03-01,a", "2,2024-03-02,b"),
        many_days.text("1,2024-03-01,a", "3,2024-03-02,c"),
        BAD,
    ]
    for content in contents:
        world.drop("all.csv", content)
        waiting = world.scan().many_days
        list(admit.receive_all_of_many_days(waiting, world.spec, *world.roots))
        world.end()
        assert world.waiting() == [] == world.files()
    assert sorted(world.archived().values()) == sorted(contents[:2]) and BAD in world.refused().values()
    assert all(key.startswith("sales/undated/") for key in (*world.archived(), *world.refused()))


def test_what_was_removed_from_the_drop_folder_is_fetched_again(world: BucketWorld) -> None:
    world.drop(A, rows(3))
    world.fetch()
    (world.folder / A).unlink()
    assert world.fetch().placed == 1
    world.receive()
    assert world.waiting() == []


def test_a_lost_record_costs_a_second_look_and_adds_nothing(world: BucketWorld) -> None:
    world.drop(A, rows(3))
    world.fetch()
    world.receive_what_is_there()
    for record in (world.folder / FETCHED).glob("*.json"):
        record.write_bytes(b"{")
    assert world.outcomes() == {A: "identical"}
    assert world.archived() == version(1, A, rows(3)) and world.waiting() == []


def test_a_file_of_the_same_name_in_the_drop_folder_comes_first(world: BucketWorld) -> None:
    (world.folder / A).write_bytes(rows(5))
    world.drop(A, rows(3))
    world.receive()
    assert world.waiting() == [A], "fetched by the pass after the file was taken in"
    world.receive()
    assert [one.sequence for one in world.archive_of_day()] == [2] and world.rows().num_rows == 3
    assert world.archived() == version(2, A, rows(3)), "what came from the bucket"


def test_a_file_that_comes_while_an_object_is_read_is_not_replaced(proxy: Proxy, world: BucketWorld) -> None:
    world.drop(A, rows(3))
    meanwhile(proxy, asks("GET"), lambda: (world.folder / A).write_bytes(rows(5)))
    for _ in range(2):
        [problem] = world.try_to_fetch().problems
        assert "has the same name" in problem and "etrying helps" in problem
        assert (world.folder / A).read_bytes() == rows(5) and world.waiting() == [A]
    world.receive_what_is_there()
    world.receive()
    assert [one.sequence for one in world.archive_of_day()] == [2] and world.rows().num_rows == 3
    assert world.waiting() == [] == world.files()


LATEST = dataclasses.replace(SPEC, files_per_day="latest")


def counts(world: BucketWorld) -> list[str]:
    return [one.name for one in world.archive_of_day()]


def test_where_the_newest_object_is_the_day_none_gets_ahead_of_one_that_failed(
    proxy: Proxy, world: BucketWorld
) -> None:
    world.spec = LATEST
    world.drop(A, rows(3))
    world.drop("b-2024-03-05.csv", rows(4))
    proxy.always(refused(403, "AccessDenied"), asks("GET"))
    assert world.try_to_fetch().placed == 0
    proxy.plan = lambda asked: None
    world.receive()
    assert counts(world) == ["b-2024-03-05.csv"] and world.waiting() == []


def test_where_the_newest_object_is_the_day_none_gets_ahead_of_one_that_waits_for_its_own_name(
    world: BucketWorld,
) -> None:
    world.spec = LATEST
    world.drop(A, rows(3))
    world.fetch()
    world.drop(A, rows(4))
    world.drop("b-2024-03-05.csv", rows(5))
    assert world.fetch().placed == 0 and not (world.folder / "b-2024-03-05.csv").exists()
    world.receive()
    world.receive()
    assert counts(world) == ["b-2024-03-05.csv"] and world.waiting() == []


def test_where_the_newest_object_is_the_day_none_gets_ahead_of_one_whose_name_a_file_has(world: BucketWorld) -> None:
    world.spec = LATEST
    (world.folder / A).write_bytes(rows(2))
    world.drop(A, rows(3))
    world.drop("b-2024-03-05.csv", rows(4))
    world.drop("b-2024-03-06.csv", rows(5))
    assert world.fetch().placed == 1 and (world.folder / "b-2024-03-06.csv").exists(), "another day"
    world.receive()
    world.receive()
    assert counts(world) == ["b-2024-03-05.csv"] and world.waiting() == []


def test_a_drop_folder_that_was_removed_is_not_made_again(world: BucketWorld) -> None:
    world.drop(A, rows(3))
    world.receive()
    world.drop(A, rows(4))
    shutil.rmtree(world.folder)
    assert "is not there any more" in world.try_to_fetch().problems[0] and not world.folder.exists()
    world.folder.mkdir()
    world.receive()
    assert world.waiting() == [] and len(world.archived()) == 2


def test_a_kept_file_is_followed_by_the_next_object(world: BucketWorld) -> None:
    """A file that was taken in stays in the drop folder for a while (`quiet_seconds`)."""
    world.spec = dataclasses.replace(SPEC, quiet_seconds=600)
    for number in (3, 4, 3):
        world.drop(A, rows(number))
        assert world.outcomes() == {A: "accepted"}
        assert world.waiting() == []
    assert (world.folder / A).exists() and len(world.archived()) == 3


def test_what_tools_make_for_folders_and_what_is_still_being_sent_is_left_alone(world: BucketWorld) -> None:
    for name in (f".{A}", f"{A}.tmp", "y/.z/c-2024-03-05.csv"):
        world.drop(name, rows(1))
    world.drop(B, rows(2))
    assert world.outcomes() == {B: "accepted"}
    assert len(world.waiting()) == 3 and world.archived() == version(1, B, rows(2))


def test_an_empty_object_is_a_file_like_any_other(world: BucketWorld) -> None:
    world.drop(A, b"")
    assert world.outcomes() == {A: "refused"}
    assert world.waiting() == [] and b"" in world.refused().values()


def test_a_second_deployment_on_a_prefix_is_refused_in_one_line(world: BucketWorld, tmp_path: Path) -> None:
    world.drop(A, rows(3))
    world.fetch()
    other = BucketWorld(tmp_path / "other")
    other.url = world.url
    with pytest.raises(owner.AnothersPrefix, match="its own prefix") as refusal:
        other.try_to_fetch()
    assert str(tmp_path) in str(refusal.value) and "\n" not in str(refusal.value)
    assert not (other.folder / A).exists()
    world.receive()
    assert world.waiting() == []


def test_two_passes_at_once_do_not_disturb_each_other(world: BucketWorld) -> None:
    world.drop(A, rows(3))
    ledger = world.places.ledger(SPEC)
    with ledger.held():
        ledger.sweep()
        done = world.fetch()
    assert done.placed == 0 and "another process" in done.told[0]
    assert world.fetch().placed == 1


def test_nothing_is_asked_where_no_bucket_is_set(proxy: Proxy, tmp_path: Path) -> None:
    from etl_project.sources.bucket import fetch, looking  # noqa: PLC0415  # Needs an extra.
    from etl_project.utc import now  # noqa: PLC0415

    without = settings.load({"ETL_DATA_DIR": str(tmp_path)})
    assert fetch.fetch(without, [SPEC]).told == [] and looking.look(without, [SPEC], now()).seen == {}
    assert proxy.asked == [] and list(tmp_path.iterdir()) == []


def test_objects_below_the_name_of_no_source_are_named(world: BucketWorld) -> None:
    from etl_project.sources.bucket import looking  # noqa: PLC0415  # Needs an extra.

    world.drop(A, rows(3))
    world.fetch()  # The bucket is owned now: what says so is in a hidden folder.
    assert looking.stray_of(world.settings, ["sales"]) == ()
    place = f"{world.settings.incoming_url}/salse"
    looking.Places(world.settings).incoming.put("salse/one.csv", b"one", None)
    assert looking.stray_of(world.settings, ["sales"]) == (
        f"not taken in: what lies in {place}: no source has this name; did you mean sales/?",
    )


def test_a_look_says_what_waits_and_changes_nothing(world: BucketWorld) -> None:
    from etl_project.sources.bucket import looking  # noqa: PLC0415  # Needs an extra.
    from etl_project.utc import now  # noqa: PLC0415

    def look() -> Any:
        return looking.look(world.settings, [dataclasses.replace(SPEC, settle_seconds=0)], now())

    world.drop(A, rows(3))
    world.drop("/".join(["x" * 100] * 8), rows(3))
    seen = look()
    assert seen.seen["sales"].is_to_do and seen.seen["sales"].waiting == 1 and seen.problems == {}
    waits, not_taken = seen.notices("sales")
    assert waits == f"sales: 1 objects wait in the bucket: {A}." and "longer than 800 bytes" in not_taken
    world.fetch()
    assert look().seen["sales"].waiting == 0 and not look().seen["sales"].is_to_do, "it is being judged"
    world.receive_what_is_there()
    assert look().seen["sales"].is_to_do, "what became of it is to be sent back"
