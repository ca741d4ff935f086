"""Every partition mapping of Dagster is followed as Dagster itself resolves it, or the asset is said to be by hand."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.partitions.context import partition_loading_context
from dagster._core.definitions.partitions.utils import infer_partition_mapping

from etl_project.due import words
from etl_project.due.following import by_hand, nodes, say_by_hand
from etl_project.due.graph import Days, Key, Node, Window, at_most, text_of
from etl_project.due.pending import Due, Outlook, Settings, Verdict, outlook, pending, runs_for
from etl_project.due.readings import key_set
from etl_project.storage.contract import Head, input_hash
from etl_project.storage.dagster.lineage import through

NOW = datetime(2025, 3, 20, 12, tzinfo=UTC)
FIRST = date(2025, 2, 24)
DAYS = dg.DailyPartitionsDefinition("2025-02-24", timezone="UTC", end_offset=1)
REGIONS = dg.StaticPartitionsDefinition(["eu", "us"])
PERIODS = {
    "days": DAYS,
    "later days": dg.DailyPartitionsDefinition("2025-03-05", timezone="UTC"),
    "weeks": dg.WeeklyPartitionsDefinition("2025-02-24", timezone="UTC"),
    "weeks from Wednesday": dg.WeeklyPartitionsDefinition("2025-02-26", timezone="UTC", day_offset=3),
    "months": dg.MonthlyPartitionsDefinition("2025-02-01", timezone="UTC"),
    "hours": dg.HourlyPartitionsDefinition("2025-03-18-00:00", timezone="UTC"),
    "days from 6": dg.DailyPartitionsDefinition("2025-02-24", timezone="UTC", hour_offset=6),
}
BERLIN_DAYS = dg.DailyPartitionsDefinition("2025-03-26", timezone="Europe/Berlin")
BERLIN_HOURS = dg.HourlyPartitionsDefinition("2025-03-26-00:00", timezone="Europe/Berlin")


def made(name: str, partitions: Any = None, **options: Any) -> dg.AssetsDefinition:
    @dg.asset(name=name, partitions_def=partitions, **options)
    def body(**_inputs: object) -> object:
        """Rows."""
        return None

    return body


def two(here: Any, there: Any, mapping: dg.PartitionMapping | None = None) -> tuple[Node, Node]:
    """What a reader and what it reads are, as nodes."""
    read = made("upstream", there)
    reader = made("reader", here, ins={"upstream": dg.AssetIn("upstream", partition_mapping=mapping)})
    found = {node.asset: node for node in nodes(dg.Definitions(assets=[read, reader]))}
    return found["reader"], found["upstream"]


def head(seen: str, fingerprint: str, at: datetime = NOW - timedelta(hours=1)) -> Head:
    return Head(seen, fingerprint, 1, round(at.timestamp() * 1e6))


def look(
    graph: tuple[Node, ...],
    heads: dict[tuple[str, Key], Head],
    red: dict[tuple[str, Key], Verdict] | None = None,
    through: tuple[str, ...] = (),
    now: datetime = NOW,
) -> Outlook:
    how = Settings(timedelta(0), first_day=date(2025, 1, 1), through=frozenset(through))
    return outlook(graph, {}, heads, now, how, red or {})


def asked(found: Outlook | list[Due]) -> list[tuple[str, str, tuple[str, ...]]]:
    runs = found if isinstance(found, list) else found.due
    return [(str(one.first), str(one.last), one.assets) for one in runs]


def is_followed_as_dagster_resolves_it(
    here: Any, there: Any, mapping: dg.PartitionMapping | None, now: datetime
) -> None:
    """With all of the upstream committed, each partition is settled by exactly the receipts that a run would note."""
    reader, upstream = two(here, there, mapping)
    assert reader.follows_inputs, reader.by_hand
    resolved = infer_partition_mapping(mapping, here, there)

    def read_by(key: Key) -> list[str | None]:
        return [None] if there is None else list(through(resolved, text_of(key), here, there))

    there_now = upstream.keys.existing(now, date.min)
    base = {("upstream", key): head("unknown", f"rows of {key}", now - timedelta(hours=1)) for key in there_now}
    seen = {}
    with partition_loading_context(effective_dt=now):
        for key in reader.keys.existing(now, date.min):
            try:
                read = read_by(key)
            except dg.DagsterInvariantViolationError:
                continue
            if read and all(upstream.keys.key(each) in there_now for each in read):
                seen[key] = input_hash(("upstream", each, f"rows of {each or ''}") for each in read)
    due = look((reader, upstream), base, now=now).due
    assert {key for one in due for key in one.keys} == seen.keys()
    committed = {("reader", key): head(hashed, "x", now) for key, hashed in seen.items()}
    assert look((reader, upstream), {**base, **committed}, now=now).due == []
    changed = {**base, ("upstream", there_now[-1]): head("unknown", "other rows", now)}
    again = {key for one in look((reader, upstream), {**changed, **committed}, now=now).due for key in one.keys}
    with partition_loading_context(effective_dt=now):
        reading = {key for key in seen if text_of(there_now[-1]) in read_by(key)}
    assert again == reading


@pytest.mark.parametrize("there", PERIODS)
@pytest.mark.parametrize("here", PERIODS)
def test_time_windows_read_the_windows_that_dagster_says(here: str, there: str) -> None:
    mapping = dg.TimeWindowPartitionMapping(allow_nonexistent_upstream_partitions=True)
    is_followed_as_dagster_resolves_it(PERIODS[here], PERIODS[there], mapping, NOW)


@pytest.mark.parametrize("offsets", [(-1, 0), (-2, -1), (0, 1), (1, 2)])
@pytest.mark.parametrize(
    ("here", "there"), [("weeks", "days"), ("days", "hours"), ("weeks", "weeks"), ("days", "days")]
)
def test_offsets_are_those_of_dagster(here: str, there: str, offsets: tuple[int, int]) -> None:
    mapping = dg.TimeWindowPartitionMapping(*offsets, allow_nonexistent_upstream_partitions=True)
    is_followed_as_dagster_resolves_it(PERIODS[here], PERIODS[there], mapping, NOW)


@pytest.mark.parametrize(("here", "there"), [(BERLIN_DAYS, BERLIN_HOURS), (BERLIN_HOURS, BERLIN_DAYS)])
def test_a_day_of_23_hours_reads_23_hours(here: Any, there: Any) -> None:
    is_followed_as_dagster_resolves_it(here, there, None, datetime(2025, 4, 2, 12, tzinfo=UTC))


MULTI = dg.MultiPartitionsDefinition({"day": DAYS, "region": REGIONS})
CUSTOMERS = dg.DynamicPartitionsDefinition(name="customers")
CUSTOMER_DAYS = dg.MultiPartitionsDefinition({"day": DAYS, "customer": CUSTOMERS})
OTHERS: dict[str, tuple[Any, Any, dg.PartitionMapping | None]] = {
    "a day of an unpartitioned asset": (DAYS, None, None),
    "an unpartitioned asset of an unpartitioned one": (None, None, None),
    "all days": (None, DAYS, None),
    "the last day": (None, DAYS, dg.LastPartitionMapping()),
    "a day of the last week": (DAYS, PERIODS["weeks"], dg.LastPartitionMapping()),
    "some that are named": (DAYS, REGIONS, dg.SpecificPartitionsPartitionMapping(["us"])),
    "regions of regions": (REGIONS, REGIONS, None),
    "regions of countries": (
        REGIONS,
        dg.StaticPartitionsDefinition(["nl", "fr", "ca"]),
        dg.StaticPartitionMapping({"nl": "eu", "fr": "eu", "ca": "us"}),
    ),
    "a day of all its regions": (DAYS, MULTI, None),
    "a day and region of a day": (MULTI, DAYS, None),
    "a region of all its days": (REGIONS, MULTI, None),
    "a day and region of a region": (MULTI, REGIONS, dg.MultiToSingleDimensionPartitionMapping("region")),
    "a day and region of themselves": (MULTI, MULTI, None),
    "customers of customers": (CUSTOMERS, CUSTOMERS, None),
    "a customer of a day and customer": (CUSTOMERS, CUSTOMER_DAYS, None),
    "a day and customer of a customer": (CUSTOMER_DAYS, CUSTOMERS, None),
    "a day of all its customers": (DAYS, CUSTOMER_DAYS, None),
    "a day and customer of a day": (CUSTOMER_DAYS, DAYS, None),
    "a customer of all regions": (CUSTOMERS, REGIONS, dg.AllPartitionMapping()),
    "a day of all customers": (DAYS, CUSTOMERS, dg.AllPartitionMapping()),
    "the last customer": (None, CUSTOMERS, dg.LastPartitionMapping()),
    "customers that are named": (CUSTOMERS, CUSTOMERS, dg.SpecificPartitionsPartitionMapping(["it's b"])),
    "customers of an unpartitioned asset": (CUSTOMERS, None, None),
}


@pytest.mark.parametrize("case", OTHERS)
def test_every_other_mapping_is_followed_as_dagster_resolves_it(case: str) -> None:
    with dg.DagsterInstance.ephemeral() as instance, partition_loading_context(dynamic_partitions_store=instance):
        instance.add_dynamic_partitions("customers", ["a", "it's b", "2025-03-20"])
        is_followed_as_dagster_resolves_it(*OTHERS[case], NOW)


def test_what_cannot_be_followed_is_said_with_the_reason(caplog: pytest.LogCaptureFixture) -> None:
    zones, _ = two(BERLIN_DAYS, DAYS)
    assert (zones.follows_inputs, "imezone" in zones.by_hand) == (False, True)
    outside = made("reader", DAYS, deps=["somebody_elses"])
    [alone] = nodes(dg.Definitions(assets=[outside]))
    assert "somebody_elses alone" in alone.by_hand
    say_by_hand((zones,))
    assert "reader is built by hand only: how it reads upstream" in caplog.text
    both = made("reader", DAYS, deps=["somebody_elses", "orders"])
    graph = nodes(dg.Definitions(assets=[made("orders", DAYS), both]))
    assert [node.follows_inputs for node in graph] == [True, True]
    assert [line.split(":")[0] for line in by_hand((zones, alone, *graph))] == [
        "reader is built by hand only",
        "reader is built by hand only",
        "reader does not follow somebody_elses",
    ]


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        (DAYS, ("2025-02-24", "2025-03-20")),
        (dg.DailyPartitionsDefinition("2025-03-10", timezone="UTC"), ("2025-03-10", "2025-03-19")),
        (dg.DailyPartitionsDefinition("2025-03-10", timezone="UTC", end_offset=-2), ("2025-03-10", "2025-03-17")),
        (dg.DailyPartitionsDefinition("2025-03-01", "2025-03-05", timezone="UTC"), ("2025-03-01", "2025-03-04")),
        (dg.DailyPartitionsDefinition("2025-03-10", timezone="UTC", end_offset=3), ("2025-03-10", "2025-03-20")),
    ],
)
def test_only_the_own_days_of_an_asset_are_asked_for(declared: Any, expected: tuple[str, str]) -> None:
    report = made("report", declared, deps=["orders"], backfill_policy=dg.BackfillPolicy.single_run())
    graph = nodes(dg.Definitions(assets=[made("orders", DAYS), report]))
    days = Days().existing(NOW, FIRST)
    orders: dict[tuple[str, Key], Head] = {("orders", day): head("unknown", f"{day}") for day in days}
    assert asked(look(graph, orders)) == [(*expected, ("report",))]


def test_a_run_builds_no_more_partitions_than_the_backfill_policy_allows() -> None:
    orders: dict[tuple[str, Key], Head] = {("orders", date(2025, 3, n)): head("unknown", f"{n}") for n in range(1, 6)}
    for policy, runs in ((None, 5), (dg.BackfillPolicy.multi_run(2), 3), (dg.BackfillPolicy.single_run(), 1)):
        report = made("report", DAYS, deps=["orders"], backfill_policy=policy)
        graph = nodes(dg.Definitions(assets=[made("orders", DAYS), report]))
        assert len(look(graph, orders).due) == runs


def test_an_asset_that_writes_nothing_our_io_managers_see_is_not_asked_for_again_and_again() -> None:
    @dg.asset(partitions_def=DAYS, deps=["orders"])
    def sent() -> None:
        """Leaves no commit record."""

    assert [node.asset for node in nodes(dg.Definitions(assets=[made("orders", DAYS), sent]))] == ["orders"]


def test_what_waits_for_an_input_that_was_never_built_is_named() -> None:
    names = made("names")
    report = made("report", DAYS, deps=["orders", "names"])
    graph = nodes(dg.Definitions(assets=[made("orders", DAYS), names, report]))
    found = look(graph, {("orders", date(2025, 3, 3)): head("unknown", "3")})
    assert found.due == []
    assert found.lacking["report"][date(2025, 3, 3)].asset == "names"


def test_what_reads_a_day_from_before_an_input_begins_is_named_with_that_reason() -> None:
    late = made("late", dg.DailyPartitionsDefinition("2025-03-05", timezone="UTC"))
    graph = nodes(dg.Definitions(assets=[made("orders", DAYS), late, made("report", DAYS, deps=["orders", "late"])]))
    found = look(graph, {("orders", date(2025, 3, n)): head("unknown", f"{n}") for n in (3, 4, 6)})
    assert found.due == []
    assert list(words.of_asset("report", found)) == [
        "report 2025-03-03 to 2025-03-04 waits for late 2025-03-03 to 2025-03-04: has no such day",
        "report 2025-03-06 waits for late 2025-03-06: has no rows yet",
    ]


# What follows is about blocking checks.

CLEAN = Node("clean", blocking=("positive",))
REPORT = (CLEAN, Node("report", ("clean",)), Node("mail", ("report",)))
THIRD, FOURTH = date(2025, 3, 3), date(2025, 3, 4)
TWO_DAYS: dict[tuple[str, Key], Head] = {
    ("clean", THIRD): head("unknown", "3"),
    ("clean", FOURTH): head("unknown", "4"),
}


def test_nothing_is_built_of_a_day_whose_blocking_check_failed_and_everything_of_the_others() -> None:
    red = {("clean", THIRD): Verdict("its blocking check positive failed")}
    found = look(REPORT, TWO_DAYS, red)
    assert asked(found) == [("2025-03-04", "2025-03-04", ("report", "mail"))]
    assert "positive failed" in found.held["report"][THIRD].why
    assert asked(look(REPORT, TWO_DAYS)) == [("2025-03-03", "2025-03-04", ("report", "mail"))]


def test_where_nobody_looked_at_the_checks_nothing_is_built_of_the_asset() -> None:
    assert pending(REPORT, {}, TWO_DAYS, NOW, timedelta(minutes=5)) == []


def test_a_check_that_did_not_finish_is_asked_for_together_with_the_rows_it_is_about() -> None:
    red = {("clean", THIRD): Verdict("did not finish", finished=False)}
    assert asked(look(REPORT, {("clean", THIRD): TWO_DAYS["clean", THIRD]}, red)) == [
        ("2025-03-03", "2025-03-03", ("clean", "report", "mail"))
    ]


def test_a_check_that_did_not_finish_takes_no_day_past_the_red_check_of_what_it_reads() -> None:
    graph = (CLEAN, Node("report", ("clean",), blocking=("whole",)), Node("mail", ("report",)))
    unfinished = {("report", THIRD): Verdict("did not finish", finished=False)}
    for fingerprint in ("3", "another"):
        built_of = head(input_hash([("clean", str(THIRD), fingerprint)]), "r")
        heads: dict[tuple[str, Key], Head] = {("clean", THIRD): TWO_DAYS["clean", THIRD], ("report", THIRD): built_of}
        assert asked(look(graph, heads, unfinished)) == [("2025-03-03", "2025-03-03", ("report", "mail"))]
        found = look(graph, heads, {**unfinished, ("clean", THIRD): Verdict("its blocking check positive failed")})
        assert found.due == [] and "positive failed" in found.held["report"][THIRD].why


# What follows is about assets that read themselves.

BALANCE = (Node("moves"), Node("balance", ("moves",), itself=Window(-1, -1, may_be_absent=True), most_keys_a_run=1))


def balances(*days: int, corrected: int | None = None) -> dict[tuple[str, Key], Head]:
    """Moves of four days, and balances of some, each made of the one before; one was corrected an hour later."""
    heads: dict[tuple[str, Key], Head] = {}
    early = NOW - timedelta(hours=3)
    for n in (1, 2, 3, 4):
        heads["moves", date(2025, 3, n)] = head("unknown", f"m{n}", early)
    for n in days:
        before = [("balance", f"2025-03-0{n - 1}", f"b{n - 1}")] if n - 1 in days else []
        seen = input_hash([("moves", f"2025-03-0{n}", f"m{n}"), *before])
        rows, at = (f"b{n} corrected", NOW) if n == corrected else (f"b{n}", early + timedelta(minutes=n))
        heads["balance", date(2025, 3, n)] = head(seen, rows, at)
    return heads


def test_a_balance_starts_from_nothing_and_is_built_in_order() -> None:
    built: list[int] = []
    for n in (1, 2, 3, 4):
        found = look(BALANCE, balances(*built))
        assert asked(found) == [(f"2025-03-0{n}", f"2025-03-0{n}", ("balance",))]
        assert set(found.held.get("balance", {})) == {date(2025, 3, later) for later in range(n + 1, 5)}
        built.append(n)
    assert look(BALANCE, balances(*built)) == Outlook([], {}, {}, {})


def test_a_balance_that_may_not_be_absent_starts_from_nothing_too() -> None:
    strict = (Node("moves"), Node("balance", ("moves",), itself=Window(-1, -1), most_keys_a_run=1))
    assert [one.first for one in look(strict, balances()).due] == [date(2025, 3, 1)]
    gap = {key: found for key, found in balances(1).items() if key != ("moves", date(2025, 3, 2))}
    assert look(strict, gap).due == [], "3 March reads 2 March, which has no rows and will have none"


def test_after_a_correction_the_later_days_are_named_and_rebuilt_in_order_when_asked_for() -> None:
    heads = balances(1, 2, 3, 4, corrected=2)
    found = look(BALANCE, heads)
    assert (found.due, found.stale) == ([], {"balance": [date(2025, 3, 3), date(2025, 3, 4)]})
    found = look(BALANCE, heads, through=("balance",))
    assert asked(found) == [("2025-03-03", "2025-03-03", ("balance",))]
    assert list(found.held["balance"]) == [date(2025, 3, 4)]


def test_a_correction_of_another_input_is_followed_by_its_own_day_alone() -> None:
    heads = balances(1, 2, 3, 4)
    heads["moves", date(2025, 3, 2)] = head("unknown", "m2 corrected", NOW)
    found = look(BALANCE, heads)
    assert asked(found) == [("2025-03-02", "2025-03-02", ("balance",))]
    assert found.stale == {"balance": [date(2025, 3, 3), date(2025, 3, 4)]}


def test_the_keys_of_records_from_another_definition_are_passed_over() -> None:
    assert (key_set(DAYS).key("2025-03-20-13:00"), key_set(DAYS).key(None)) == (None, None)
    assert (key_set(None).key("eu"), key_set(None).key(None)) == (None, "")


def test_a_range_is_cut_into_runs_of_as_many_days_as_the_setting_says() -> None:
    due = {"clean": {date(2025, 3, n): "new" for n in range(1, 6)}}
    spans = [(one.first, one.last) for one in runs_for(at_most([CLEAN], 2), due, NOW)]
    assert spans == [(date(2025, 3, n), date(2025, 3, min(n + 1, 5))) for n in (1, 3, 5)]
    assert at_most([CLEAN], None) == (CLEAN,) and len(runs_for([CLEAN], due, NOW)) == 1
    assert at_most(BALANCE, 2)[1].most_keys_a_run == 1, "what an asset says of itself counts where it is less"
