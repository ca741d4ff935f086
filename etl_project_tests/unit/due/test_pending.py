"""What is due: a table of cases, each a snapshot and the runs that must be asked for in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl_project.due.pending import Due, Node, SourceState, Window, in_dependency_order, pending
from etl_project.storage.contract import UNKNOWN, Head, input_hash

NOW = datetime(2025, 3, 20, 12, 0, tzinfo=UTC)
TODAY = NOW.date()
EMPTY = "fingerprint of no files"
NODES = [
    Node("report", ("sales", "orders")),
    Node("orders", ("raw",)),
    Node("sales", ("orders",)),
    Node("raw", ("files",)),
    Node("rejects", ("files",)),
    Node("files", source="shop"),
]
ALL = ("files", "raw", "rejects", "orders", "sales", "report")
BUILT = ALL[1:]
INPUTS = {"raw": ["files"], "rejects": ["files"], "orders": ["raw"], "sales": ["orders"], "report": ["orders", "sales"]}


def day(number: int) -> date:
    return date(2025, 3, number)


def head(seen: str, fingerprint: str, at: datetime, rows: int = 1) -> Head:
    return Head(seen, fingerprint, rows, round(at.timestamp() * 1e6))


def heads_for(
    days: dict[int, str], *, committed_at: datetime = NOW - timedelta(days=1)
) -> dict[tuple[str, date], Head]:
    """Commits of every asset on these days, all in line with the accepted fingerprint given for the day."""
    heads = {}
    for number, accepted in days.items():
        offers = {"files": accepted}
        for asset, upstream in INPUTS.items():
            offers[asset] = f"{asset} from {accepted}"
            seen = input_hash((up, day(number).isoformat(), offers[up]) for up in upstream)
            heads[asset, day(number)] = head(seen, offers[asset], committed_at, rows=0 if accepted == EMPTY else 1)
    return heads


def without(heads: dict[tuple[str, date], Head], *gone: tuple[str, int]) -> dict[tuple[str, date], Head]:
    return {key: head for key, head in heads.items() if key not in {(asset, day(number)) for asset, number in gone}}


@dataclass
class Case:
    name: str
    runs: list[tuple[int, int, tuple[str, ...]]]
    waiting: dict[int, str] = field(default_factory=dict)
    accepted: dict[int, str] = field(default_factory=dict)
    blocked: set[int] = field(default_factory=set)
    heads: dict[tuple[str, date], Head] = field(default_factory=dict)
    empty_days: bool = False
    longest_gap: int = 31


CASES = [
    Case("nothing there, nothing due", []),
    Case("a waiting file is due in every asset of its day", [(3, 3, ALL)], waiting={3: "a"}),
    Case("neighbouring days are one run", [(3, 5, ALL)], waiting={3: "a", 4: "b", 5: "c"}),
    Case(
        "a day without a file splits the range when it is missing", [(3, 3, ALL), (5, 5, ALL)], waiting={3: "a", 5: "c"}
    ),
    Case("a day without a file is bridged when it is empty", [(3, 5, ALL)], waiting={3: "a", 5: "c"}, empty_days=True),
    Case(
        "a gap too long to be holidays is not bridged",
        [(3, 3, ALL), (9, 9, ALL)],
        waiting={3: "a", 9: "c"},
        empty_days=True,
        longest_gap=4,
    ),
    Case(
        "a gap of exactly the allowed length is bridged",
        [(3, 9, ALL)],
        waiting={3: "a", 9: "c"},
        empty_days=True,
        longest_gap=5,
    ),
    Case(
        "a day after the last file is missing, whatever the source allows",
        [],
        accepted={3: "a"},
        heads=heads_for({3: "a"}),
        empty_days=True,
    ),
    Case(
        "an empty day is due once between old files too",
        [(4, 4, BUILT)],
        accepted={3: "a", 5: "b"},
        heads=heads_for({3: "a", 5: "b"}),
        empty_days=True,
    ),
    Case(
        "a committed empty day is not due again",
        [],
        accepted={3: "a", 5: "b"},
        heads=heads_for({3: "a", 4: EMPTY, 5: "b"}),
        empty_days=True,
    ),
    Case(
        "a day with a refused file is not empty",
        [],
        accepted={3: "a", 5: "b"},
        blocked={4},
        heads=heads_for({3: "a", 5: "b"}),
        empty_days=True,
    ),
    Case("today is never bridged as empty", [(19, 19, ALL)], waiting={19: "a"}, empty_days=True),
    Case("committed and unchanged: nothing", [], accepted={3: "a"}, heads=heads_for({3: "a"})),
    Case("accepted but never committed (killed before the raw commit)", [(3, 3, BUILT)], accepted={3: "a"}),
    Case(
        "a new version was accepted (killed before the raw commit)",
        [(3, 3, BUILT)],
        accepted={3: "a2"},
        heads=heads_for({3: "a"}),
    ),
    Case(
        "the raw commit alone is there (killed after it)",
        [(3, 3, BUILT[1:])],
        accepted={3: "a"},
        heads={k: h for k, h in heads_for({3: "a"}).items() if k[0] == "raw"},
    ),
    Case(
        "one table was not reached",
        [(3, 3, ("sales", "report"))],
        accepted={3: "a"},
        heads=without(heads_for({3: "a"}), ("sales", 3)),
    ),
    Case(
        "the last table was not reached",
        [(3, 3, ("report",))],
        accepted={3: "a"},
        heads=without(heads_for({3: "a"}), ("report", 3)),
    ),
    Case(
        "a table rebuilt by hand makes what reads it due",
        [(3, 3, ("sales", "report"))],
        accepted={3: "a"},
        heads={
            **heads_for({3: "a"}),
            ("orders", day(3)): head(heads_for({3: "a"})["orders", day(3)].input_hash, "new content", NOW),
        },
    ),
    Case(
        "an input that nobody could fingerprint asks for nothing",
        [],
        accepted={3: "a"},
        heads={**heads_for({3: "a"}), ("report", day(3)): head(UNKNOWN, "x", NOW)},
    ),
    Case(
        "a commit that does not know its input is due again once an input was committed after it",
        [(3, 3, ("report",))],
        accepted={3: "a"},
        heads={**heads_for({3: "a"}), ("report", day(3)): head(UNKNOWN, "x", NOW - timedelta(days=2))},
    ),
    Case(
        "a lost archive empties no day that was committed from files",
        [],
        heads=heads_for({3: "a", 4: "b", 5: EMPTY, 6: "c"}),
        empty_days=True,
    ),
    Case(
        "a day whose archived file is lost is no empty day between two others",
        [],
        accepted={3: "a", 5: "c"},
        heads=heads_for({3: "a", 4: "b", 5: "c"}),
        empty_days=True,
    ),
    Case(
        "a table that was not reached on an empty day is due although nobody closes that day any more",
        [(4, 4, ("report",))],
        accepted={3: "a"},
        heads=without(heads_for({3: "a", 4: EMPTY}), ("report", 4)),
        empty_days=True,
    ),
    Case("a missing input: nothing to build from", [], heads=heads_for({}), accepted={}),
    Case("a commit whose accepted file is gone stays as it is", [], heads=heads_for({3: "a"})),
    Case(
        "a waiting file beside committed days touches its own day only",
        [(4, 4, ALL)],
        waiting={4: "b"},
        accepted={3: "a", 4: "b", 5: "c"},
        heads=heads_for({3: "a", 4: "b", 5: "c"}),
    ),
    Case("tomorrow waits for tomorrow", [], waiting={21: "a"}),
    Case("today is due when it was never built", [(20, 20, ALL)], waiting={20: "a"}),
    Case(
        "today is not due again inside its interval",
        [],
        waiting={20: "b"},
        accepted={20: "a"},
        heads=heads_for({20: "a"}, committed_at=NOW - timedelta(minutes=2)),
    ),
    Case(
        "today waits for its interval although one of its tables could never be built",
        [],
        waiting={20: "b"},
        accepted={20: "a"},
        heads=without(heads_for({20: "a"}, committed_at=NOW - timedelta(minutes=2)), ("report", 20)),
    ),
    Case(
        "today is due again after its interval",
        [(20, 20, ALL)],
        waiting={20: "b"},
        accepted={20: "a"},
        heads=heads_for({20: "a"}, committed_at=NOW - timedelta(minutes=6)),
    ),
    Case(
        "a half-built today does not wait for its interval",
        [(20, 20, ("report",))],
        accepted={20: "a"},
        heads=without(heads_for({20: "a"}, committed_at=NOW), ("report", 20)),
    ),
    Case(
        "the range splits where the due assets differ",
        [(3, 3, ("report",)), (4, 4, BUILT)],
        accepted={3: "a", 4: "b"},
        heads=without(heads_for({3: "a"}), ("report", 3)),
    ),
]


def ask(case: Case, **changes: object) -> list[Due]:
    state = SourceState(
        waiting={day(number): files for number, files in case.waiting.items()},
        accepted={day(number): files for number, files in case.accepted.items()},
        blocked=frozenset(map(day, case.blocked)),
        empty_fingerprint=EMPTY if case.empty_days else None,
        longest_empty_gap_days=case.longest_gap,
    )
    arguments = {"nodes": NODES, "heads": case.heads} | changes
    return pending(sources={"shop": state}, now=NOW, open_day_interval=timedelta(minutes=5), **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_exactly_what_is_due_is_asked_for(case: Case) -> None:
    assert [(due.first.day, due.last.day, due.assets) for due in ask(case)] == case.runs


def test_the_same_situation_is_the_same_request_and_another_one_is_another() -> None:
    one = Case("one", [], waiting={3: "a"})
    assert ask(one) == ask(one)
    assert ask(one)[0].state != ask(Case("other file", [], waiting={3: "b"}))[0].state
    newer = [Node(n.asset, n.upstream, n.source, code_version="2" if n.asset == "sales" else "") for n in NODES]
    assert ask(one)[0].state != ask(one, nodes=newer)[0].state, "new code is a new request for what is due"


def test_new_code_alone_asks_for_nothing() -> None:
    done = Case("done", [], accepted={3: "a"}, heads=heads_for({3: "a"}))
    newer = [Node(n.asset, n.upstream, n.source, code_version="2") for n in NODES]
    assert ask(done, nodes=newer) == []


def test_an_asset_that_opted_out_never_becomes_due() -> None:
    nodes = [Node(n.asset, n.upstream, n.source, follows_inputs=n.asset != "report") for n in NODES]
    assert [due.assets for due in ask(Case("", [], waiting={3: "a"}), nodes=nodes)] == [ALL[:-1]]


def test_two_pipelines_that_share_nothing_are_asked_for_apart() -> None:
    other = [Node("taps", source="bar"), Node("beers", ("taps",))]
    states = {"shop": SourceState(waiting={day(3): "a"}), "bar": SourceState(waiting={day(3): "b"})}
    runs = pending([*NODES, *other], states, {}, NOW, timedelta(minutes=5))
    assert sorted(run.assets for run in runs) == sorted([ALL, ("taps", "beers")])


def test_what_cannot_be_built_today_takes_the_interval_from_nobody_else() -> None:
    bar = [Node("taps", source="bar"), Node("beers", ("taps",))]
    states = {"shop": SourceState({TODAY: "b"}, {TODAY: "a"}), "bar": SourceState({TODAY: "never fits"})}
    heads = heads_for({20: "a"}, committed_at=NOW - timedelta(minutes=2))
    runs = pending([*NODES, *bar], states, heads, NOW, timedelta(minutes=5))
    assert [run.assets for run in runs] == [("taps", "beers")]


def test_a_range_has_halves_that_are_what_would_be_due_if_only_their_days_were() -> None:
    both = Case("", [], waiting={3: "a", 4: "b"}, accepted={5: "c", 6: "d", 7: "e"})
    [whole] = ask(both)
    left, right = whole.halves()
    assert [(left.first.day, left.last.day), (right.first.day, right.last.day)] == [(3, 5), (6, 7)]
    assert [left] == ask(Case("", [], waiting={3: "a", 4: "b"}, accepted={5: "c"}))
    assert [right] == ask(Case("", [], accepted={6: "d", 7: "e"})), "no file waits there: nothing is taken in"
    first, second = left.halves()[0].halves()
    assert (first.halves(), second.halves()) == ((), ()), "a day has no halves"


def test_a_circle_of_assets_is_named() -> None:
    with pytest.raises(ValueError, match="circle: a, b"):
        in_dependency_order([Node("a", ("b",)), Node("b", ("a",))])


@settings(max_examples=200, deadline=None)
@given(
    accepted=st.dictionaries(st.integers(1, 19), st.sampled_from("abc"), max_size=8),
    waiting=st.dictionaries(st.integers(1, 19), st.sampled_from("xyz"), max_size=4),
    empty_days=st.booleans(),
)
def test_running_what_is_pending_leaves_nothing_pending(
    accepted: dict[int, str], waiting: dict[int, str], empty_days: bool
) -> None:
    """From any snapshot, doing what is asked for once is enough: a crash anywhere converges in the next round."""
    case = Case("", [], waiting=waiting, accepted=accepted, empty_days=empty_days)
    due = ask(case)
    covered = {d for run in due for d in range(run.first.day, run.last.day + 1)}
    now_accepted = accepted | waiting
    done = heads_for({d: now_accepted.get(d, EMPTY) for d in covered})
    assert ask(Case("", [], accepted=now_accepted, heads=done, empty_days=empty_days)) == []
    assert covered >= set(now_accepted)


LATE = [
    Node("files", source="shop"),
    Node("raw", ("files",)),
    Node("events", ("raw",), windows={"raw": Window(0, 2, may_be_absent=True)}),
    Node("report", ("events",)),
]
TRAILING = [*LATE[:2], Node("events", ("raw",), windows={"raw": Window(-2, 0)})]


def ask_late(
    accepted: dict[int, str],
    waiting: dict[int, str],
    heads: dict[tuple[str, date], Head],
    nodes: list[Node] = LATE,
    first: int = 1,
) -> list[tuple[int, int, tuple[str, ...]]]:
    state = SourceState({day(n): files for n, files in waiting.items()}, {day(n): f for n, f in accepted.items()})
    runs = pending(nodes, {"shop": state}, heads, NOW, timedelta(minutes=5), first_day=day(first))
    return [(run.first.day, run.last.day, run.assets) for run in runs]


def raw_heads(*days: int) -> dict[tuple[str, date], Head]:
    return {("raw", day(n)): head(input_hash([("files", str(day(n)), f"f{n}")]), f"r{n}", NOW) for n in days}


def event_heads(raw: dict[int, list[int]], at: datetime = NOW - timedelta(days=1)) -> dict[tuple[str, date], Head]:
    """Commits of events and report on each day, made of the raw days given."""
    heads = {}
    for number, read in raw.items():
        seen = input_hash(("raw", str(day(n)), f"r{n}") for n in read)
        heads["events", day(number)] = head(seen, f"e{number}", at)
        report = input_hash([("events", str(day(number)), f"e{number}")])
        heads["report", day(number)] = head(report, f"p{number}", at)
    return heads


def test_a_file_is_due_on_its_own_day_first_and_on_the_days_before_it_once_it_is_raw() -> None:
    assert ask_late({}, {10: "f10"}, {}) == [(10, 10, ("files", "raw", "events", "report"))]
    done = raw_heads(10) | event_heads({10: [10]})
    assert ask_late({10: "f10"}, {}, done) == [(8, 9, ("events", "report"))]
    assert ask_late({10: "f10"}, {}, done | event_heads({8: [10], 9: [10]})) == []


def test_a_later_file_asks_again_for_the_days_that_it_may_hold_rows_of() -> None:
    done = raw_heads(10) | event_heads({8: [10], 9: [10], 10: [10]})
    assert ask_late({10: "f10"}, {11: "f11"}, done) == [(11, 11, ("files", "raw", "events", "report"))]
    done |= raw_heads(11) | event_heads({11: [11]})
    assert ask_late({10: "f10", 11: "f11"}, {}, done) == [(9, 10, ("events", "report"))]


def test_no_event_day_before_the_first_day_is_asked_for() -> None:
    done = raw_heads(2) | event_heads({2: [2]})
    assert ask_late({2: "f2"}, {}, done, first=1) == [(1, 1, ("events", "report"))]
    assert ask_late({2: "f2"}, {}, done, first=2) == []


def test_an_open_day_whose_files_keep_coming_does_not_hold_up_the_days_before_it() -> None:
    recently = NOW - timedelta(minutes=1)
    heads = raw_heads(20) | event_heads({20: [20]}, recently)
    heads = {key: head(h.input_hash, h.fingerprint, recently) for key, h in heads.items()}
    assert ask_late({20: "f20"}, {20: "f20 again"}, heads) == [(18, 19, ("events", "report"))]


def test_a_window_that_must_be_whole_waits_for_all_its_days() -> None:
    assert ask_late({8: "f8", 10: "f10"}, {}, raw_heads(8, 10), TRAILING) == []
    done = raw_heads(8, 9, 10)
    accepted = {n: f"f{n}" for n in (8, 9, 10)}
    assert ask_late(accepted, {}, done, TRAILING) == [(10, 10, ("events",))]
    seen = input_hash(("raw", str(day(n)), f"r{n}") for n in (8, 9, 10))
    assert ask_late(accepted, {}, done | {("events", day(10)): head(seen, "e", NOW)}, TRAILING) == []


def test_days_that_are_no_partitions_are_not_read_where_the_mapping_allows_that() -> None:
    clipped = [*LATE[:2], Node("events", ("raw",), windows={"raw": Window(-2, 1, may_not_exist=True)})]
    accepted = {n: f"f{n}" for n in (17, 18, 19, 20)}
    found = ask_late(accepted, {}, raw_heads(*accepted), clipped, first=17)
    assert found == [(17, 20, ("events",))]
    del accepted[19]
    found = ask_late(accepted, {}, raw_heads(*accepted), clipped, first=17)
    assert found == [(17, 17, ("events",))], "a day that exists has to be there"
