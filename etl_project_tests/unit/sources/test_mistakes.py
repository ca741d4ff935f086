"""Whatever is wrong with a `defs.yaml` or a `contract.sql` is one line with file, line and key; other sources go on."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from etl_project.definitions import load_project
from etl_project.sources import FileSource, MistakeInPipeline, Pipelines, buildable

DEFS = """\
type: etl_project.sources.component.FileSource

attributes:
  name: sales
  patterns:
    - "*{date}*.csv"
  time_zone: UTC
  files_per_day: many
  empty_days: missing
  max_rejected_ratio: 0.01
  columns:
    Number: order_no
    Amount: amount
  computed:
    twice: amount * 2
"""
CONTRACT = """\
CREATE TABLE sales (
    batch_date DATE NOT NULL,
    order_no BIGINT NOT NULL,
    amount DECIMAL(12, 3),
    twice DECIMAL(13, 3),
    PRIMARY KEY (batch_date, order_no)
);
"""

IN_DEFS = {
    "an open bracket": ("name: sales", "name: [sales", 5, "this is no YAML"),
    "a tab": ("  name: sales", "\tname: sales", 4, "this is no YAML"),
    "a wrong word": ("many", "mny", 8, "files_per_day is 'mny'; it must be many, latest"),
    "a bare no": (
        "empty_days: missing",
        "empty_days: no",
        9,
        "empty_days is False; it must be missing or allowed (YAML",
    ),
    "a bare on as a key": ("Number: order_no", "on: order_no", 12, "columns.on is True; it must be text (YAML reads"),
    "a bare yes as a value": (
        "Number: order_no",
        "Number: yes",
        12,
        "columns.Number is True; it must be text (YAML reads",
    ),
    "text for a number": ("0.01", "much", 10, "max_rejected_ratio is 'much'; it must be a number"),
    "a number that is too large": ("0.01", "5", 10, "max_rejected_ratio is 5.0; it must lie between 0 and 1"),
    "a template of no number": ("0.01", '"{{ env.ETL_NO_SUCH }}"', 10, "max_rejected_ratio"),
    "a list for text": ("Amount: amount", "Amount: [amount]", 13, "columns.Amount is ['amount']; it must be text"),
    "an unknown setting": ("time_zone:", "timezone:", 7, "timezone is no setting; did you mean time_zone?"),
    "a setting that is missing": ("  name: sales\n", "", 3, "name is missing; write it like `name: orders`"),
    "a key that comes twice": ("  time_zone: UTC", "  name: x\n  time_zone: UTC", 7, "name is there twice"),
    "an unknown zone": ("time_zone: UTC", "time_zone: Europe/Londn", 7, "time_zone 'Europe/Londn' is not known"),
    "a pattern without a date": ('"*{date}*.csv"', '"{dte}.csv"', 6, "{dte}"),
    "a column that the contract lacks": ("Amount: amount", "Amount: amnt", 13, "column amnt"),
    "a computed column that the contract lacks": ("twice: amount", "thrice: amount", 15, "column thrice"),
    "SQL with a mistake": ("amount * 2", "amount * * 2", 15, "computed.twice: "),
    "SQL over no column": ("amount * 2", "amnt * 2", 15, "computed.twice: "),
    "SQL with an unknown function": ("amount * 2", "doubl(amount)", 15, "computed.twice: "),
    "a rule with a mistake": ("  columns:", "  skip_rows_where: amount ~~\n  columns:", 11, "skip_rows_where: "),
    "no component": ("component.FileSource", "component.FileSurce", 1, "type: Module"),
    "no type": ("type: etl_project.sources.component.FileSource", "", 1, "type is missing; write it like `type: etl_"),
    "no attributes": (DEFS, "type: etl_project.sources.component.FileSource\n", 1, "is missing"),
    "a list": (DEFS, "- a\n", 1, "it must be keys with values"),
    "nothing": (DEFS, "", 1, "it is empty"),
    "a deadline": ("  columns:", "  deadline: 6 o'clock\n  columns:", 11, "deadline"),
    "a ratio of nothing": (
        "  columns:",
        "  max_removed_ratio: 0\n  columns:",
        11,
        "max_removed_ratio is 0.0; it must be above",
    ),
}
IN_CONTRACT = {
    "SQL with a mistake": ("amount DECIMAL(12, 3),", "amount DECIMAL(12, 3) NOT NUL,", 4, "Parser Error"),
    "an unknown type": ("order_no BIGINT", "order_no BIGNIT", 3, "Type with name BIGNIT does not exist"),
    "another table": ("CREATE TABLE sales", "CREATE TABLE sale", 1, "has no CREATE TABLE sales; it has sale"),
    "the table twice": (CONTRACT, CONTRACT + CONTRACT, 1, 'Table with name "sales" already exists'),
    "a foreign key": ("order_no BIGINT NOT NULL", "order_no BIGINT REFERENCES other (no)", 1, "FOREIGN KEY"),
    "nothing": (CONTRACT, "", 1, "no table"),
}

Broken = Callable[[str, str, str], Pipelines]


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Broken:
    """A package of two sources, of which the first has a mistake in one of its files."""
    monkeypatch.setenv("ETL_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.syspath_prepend(str(tmp_path))
    package = f"shop_{tmp_path.name}"

    def loaded(file: str, right: str, wrong: str) -> Pipelines:
        folders = {
            "sales": (DEFS, CONTRACT),
            "other": (DEFS.replace("sales", "other"), CONTRACT.replace("sales", "other")),
        }
        for name, (defs, contract) in folders.items():
            folder = tmp_path / package / name
            folder.mkdir(parents=True)
            (folder / "defs.yaml").write_text(defs)
            (folder / "contract.sql").write_text(contract)
        (tmp_path / package / "__init__.py").write_text("")
        path = tmp_path / package / "sales" / file
        assert right in path.read_text()
        path.write_text(path.read_text().replace(right, wrong, 1))
        return Pipelines(import_module(package), tmp_path)

    return loaded


def said(found: Pipelines, file: str) -> str:
    """The one line, without the folder; the other source is there all the same."""
    assert [one.spec.name for one in found.sources] == ["other"]
    definitions, waiting = buildable(found.definitions())
    names = {key.to_user_string() for one in definitions.assets or () for key in one.keys}  # type: ignore[union-attr]
    assert (names, waiting) == ({"other", "other_files", "raw_other", "other_rejects"}, [])
    [(folder, line)] = found.broken.items()
    assert "\n" not in line and line.startswith(f"{folder / file}:"), line
    return line.removeprefix(f"{folder / file}:")


@pytest.mark.parametrize("mistake", IN_DEFS)
def test_a_mistake_in_the_yaml_is_one_line_and_the_other_source_goes_on(broken: Broken, mistake: str) -> None:
    right, wrong, line, words = IN_DEFS[mistake]
    told = said(broken("defs.yaml", right, wrong), "defs.yaml")
    assert told.startswith(f"{line}: ") and words in told, told


@pytest.mark.parametrize("mistake", IN_CONTRACT)
def test_a_mistake_in_the_contract_is_one_line_and_the_other_source_goes_on(broken: Broken, mistake: str) -> None:
    right, wrong, line, words = IN_CONTRACT[mistake]
    told = said(broken("contract.sql", right, wrong), "contract.sql")
    assert told.startswith(f"{line}:") and words in told, told


def test_a_template_may_give_a_number(broken: Broken, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETL_RATIO", "0.25")
    found = broken("defs.yaml", "0.01", '"{{ env.ETL_RATIO }}"')
    assert found.broken == {} and {one.spec.max_rejected_ratio for one in found.sources} == {0.01, 0.25}


def test_an_error_of_python_keeps_its_traceback(broken: Broken, tmp_path: Path) -> None:
    found = broken("defs.yaml", "many", "many")
    (tmp_path / f"shop_{tmp_path.name}" / "sales" / "assets.py").write_text("1 / 0\n")
    with pytest.raises(Exception, match=r"defs.yaml") as raised:
        found.definitions()
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        *(("files_per_day", "mny"), ("empty_days", False), ("time_zone", "Europe/Londn"), ("format", "cvs")),
        *(("max_rejected_ratio", 5), ("max_rejected_ratio", "[]"), ("patterns", []), ("columns", {}), ("name", "1")),
        *(("unknown_columns", "drop"), ("compression", "rar"), ("deadline", "six"), ("timezone", "UTC")),
    ],
)
def test_an_editor_and_dg_check_yaml_see_it_too(setting: str, value: Any) -> None:
    model = FileSource.get_model_cls()
    assert model is not None
    check = Draft202012Validator(model.model_json_schema())
    right = yaml.safe_load(DEFS)["attributes"]
    assert list(check.iter_errors(right)) == []
    if value == "[]":  # A template has a value only when it is loaded.
        assert list(check.iter_errors({**right, setting: "{{ env.RATIO }}"})) == []
    else:
        assert list(check.iter_errors({**right, setting: value})) != []


REPORT = """\
import dagster as dg


@dg.asset(deps=["sales"])
def report() -> None: ...


@dg.asset(deps=[report])
def summary() -> None: ...


@dg.asset
def apart() -> None: ...
"""


def test_the_project_goes_on_without_it_what_reads_it_waits_and_dagster_is_told(
    broken: Broken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = f"shop_{tmp_path.name}"
    broken("defs.yaml", "many", "mny")
    (tmp_path / package / "reports").mkdir()
    (tmp_path / package / "reports" / "assets.py").write_text(REPORT)
    monkeypatch.setenv("ETL_PIPELINES", package)
    project, assets = load_project(strict=False)
    assert len(project.broken) == 1 and "files_per_day is 'mny'" in project.broken[0]
    assert [line.split()[0] for line in project.left_out] == ["report", "summary"]
    assert {spec.name for spec in project.sources} == {"other"}
    there = {key.to_user_string() for one in assets.assets or () for key in one.keys}  # type: ignore[union-attr]
    assert "apart" in there and not there & {"sales", "report", "summary"}
    with pytest.raises(MistakeInPipeline, match=r"^\S+defs.yaml:8: files_per_day is 'mny'; it must be [a-z, ]+$"):
        load_project()
