from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from documents import ROOT, Row, blocks, column, section, tables, text_of
from pydantic_core import PydanticUndefined

from fi_stream import errors
from fi_stream.cli import app
from fi_stream.events.refusals import Reason
from fi_stream.federation.federation import Federation
from fi_stream.federation.files import read_federation, read_member
from fi_stream.federation.member import (
    HealthSection,
    HelperSection,
    LimitsSection,
    MemberSettings,
    ModelSection,
    OwnSection,
    PrivacySection,
)
from fi_stream.federation.policy import Limits, NoisyMaxPolicy, Policy, SecaggPolicy
from fi_stream.federation.roster import Member, Roster
from fi_stream.federation.task import Task, TensorSpec
from fi_stream.roles import seat
from fi_stream.roles.metrics import FAMILIES
from fi_stream.roles.progress import Progress, Surroundings
from fi_stream.transport import connection
from fi_stream.values import Instant

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import BaseModel

TEXT = text_of("docs/operating.md")
_LIBRARY = ROOT / "fi_stream"
_TABLES = (Limits, Policy, SecaggPolicy, LimitsSection, HealthSection)
SECTIONS: dict[str, type[BaseModel]] = {
    "[task]": Task,
    "[[task.inputs]]": TensorSpec,
    "[policy]": Policy,
    "[policy.secagg]": SecaggPolicy,
    "[policy.limits]": Limits,
    "[policy.noisy_max]": NoisyMaxPolicy,
    "[[members]]": Member,
    "[member]": OwnSection,
    "[model]": ModelSection,
    "[privacy]": PrivacySection,
    "[helper]": HelperSection,
    "[limits]": LimitsSection,
    "[health]": HealthSection,
}


@pytest.mark.parametrize("heading", SECTIONS)
def test_every_key_is_documented_with_its_default(heading: str) -> None:
    model = SECTIONS[heading]
    (rows,) = tables(section(TEXT, heading))
    assert sorted(column(rows, "key")) == sorted(model.model_fields)
    for row in rows:
        default = model.model_fields[row["key"]].default
        assert row["default"] in _spellings(default), f"{heading} {row['key']}: {default!r}"


def test_every_key_at_the_top_of_a_file_is_documented() -> None:
    (top,) = tables(section(TEXT, "Top level"))
    keys = (Federation.model_fields.keys() - {"roster"}) | Roster.model_fields.keys()
    assert set(column(top, "key")) == keys
    for name in MemberSettings.model_fields:
        assert f"### [{name}]" in TEXT


def test_every_broker_setting_is_documented_with_its_default() -> None:
    rows = tables(section(TEXT, "Broker settings"))[0]
    numbers = dict(connection._NUMBERS)
    assert set(column(rows, "key")) == connection._WORDS | numbers.keys()
    for row in rows:
        number = numbers.get(row["key"])
        if row["key"] == "message.max.bytes":
            assert (row["default"], f"{seat._ROOM} more" in row["what"]) == ("policy", True)
        elif number is not None:
            assert row["default"] == str(number), row["key"]
    assert all(f"`{alias}`" in TEXT for alias in connection._ALIASES)


def test_every_reason_is_explained_once() -> None:
    (rows,) = tables(section(TEXT, "Refusals"))
    assert sorted(column(rows, "reason")) == sorted(reason.value for reason in Reason)
    assert all(row["what it means"] and row["what to do"] for row in rows)


def test_the_exit_codes_are_those_of_the_command_line() -> None:
    (rows,) = tables(section(TEXT, "Exit codes"))
    said = {int(row["code"]): row["what"] for row in rows}
    assert app.__doc__ is not None
    documented = re.findall(r"^    (\d+) +(.*)$", app.__doc__, flags=re.MULTILINE)
    assert said == {int(code): what for code, what in documented}
    kinds = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, Exception)]
    assert {kind.exit_code for kind in kinds} <= said.keys()  # type: ignore[attr-defined]


def test_the_example_files_are_read_without_a_mistake(tmp_path: Path) -> None:
    federation, member = (text for text in blocks(TEXT, "toml"))
    cards = {role: _card(role) for role in ("participant", "aggregator", "client")}
    head = federation.split("[[members]]")[0].replace("quorum = 2", "quorum = 1")
    head = head.replace('signing_key = "..."', f'signing_key = "{"A" * 43}="')
    (tmp_path / "federation.toml").write_text(head + "".join(cards.values()), "utf-8")
    (tmp_path / "member.toml").write_text(member, "utf-8")
    assert isinstance(read_federation(tmp_path / "federation.toml"), Federation)
    assert isinstance(read_member(tmp_path / "member.toml"), MemberSettings)


def test_every_metric_is_documented_as_it_is() -> None:
    rows = next(t for t in tables(section(TEXT, "Metrics")) if "kind" in t[0])
    assert column(rows, "name") == list(FAMILIES)
    for row in rows:
        family = FAMILIES[row["name"]]
        assert (row["kind"], row["label"]) == (family.kind, family.label)
        assert row["what"].startswith(family.what)


def test_every_check_of_the_doctor_is_documented() -> None:
    (rows,) = tables(section(TEXT, "Looking at a set-up"))
    said = [name for row in rows for name in re.findall(r"[a-z]+(?: [a-z]+)?", row["check"])]
    files = ("cli/doctor", "roles/doctor", "roles/announced", "transport/network")
    source = "".join((_LIBRARY / f"{file}.py").read_text("utf-8") for file in files)
    made = re.findall(r"(?:ok|warning|wrong)\(\s*\"([a-z ]+)\"", source)
    assert set(said) == set(made)


def test_every_log_event_is_explained_and_no_other() -> None:
    (rows,) = tables(section(TEXT, "Logs"))
    said = [name.strip(" `") for row in rows for name in row["event"].split(",")]
    levels = "info|warning|error|critical"
    logged = re.findall(rf'_log\.(?:{levels})\(\s*"([^"]+)"', _source("roles", "transport"))
    assert sorted(said) == sorted(set(logged))


def test_every_reason_for_not_being_ready_is_explained_and_no_other() -> None:
    (rows,) = tables(section(TEXT, "Readiness"))
    said = column(rows, "`/readyz` says")
    source = _source("roles", "transport")
    told = re.findall(r'doing\("([^"]+)"\)|_doing: str \| None = "([^"]+)"', source)
    assert {one or other for one, other in told} <= set(said)
    for reason in said:
        words = re.split(r"\d+|fi\.\w+", reason)  # where the source has a value
        assert all(word.strip() in source for word in words), reason
    for told in _all_that_can_lack():
        assert any(_numberless(told).startswith(_numberless(one)) for one in said), told


def _all_that_can_lack() -> list[str]:
    progress = Progress(Instant(0))
    progress.assigned([])
    progress.polled(Instant(0))
    progress.look(Surroundings(reachable=False, skew=5, max_skew=1, lost=1, moved=1), Instant(0))
    return progress.lacking(Instant(20)) + progress.degraded(Instant(20))


def _numberless(text: str) -> str:
    return re.sub(r"\d+", "0", text)


def _source(*folders: str) -> str:
    files = [file for folder in folders for file in sorted(_LIBRARY.glob(f"{folder}/*.py"))]
    return "".join(file.read_text("utf-8") for file in files)


def _card(role: str) -> str:
    keys: Row = {"signing_key": "A" * 43 + "=", "sealing_key": "A" * 1622 + "=="}
    lines = [f'{name} = "{key}"' for name, key in keys.items()]
    return "\n".join(["[[members]]", f'id = "{role}"', f'roles = ["{role}"]', *lines, ""])


def _spellings(default: Any) -> set[str]:
    """The ways in which a table may say this default."""
    if default is PydanticUndefined:
        return {"needed"}
    if default is None:
        return {"none", "digest", "measured", "where the model is"}
    if isinstance(default, _TABLES):
        return {"all defaults"}
    plain = [*default] if isinstance(default, tuple) else default
    return {json.dumps(plain), str(default)}
