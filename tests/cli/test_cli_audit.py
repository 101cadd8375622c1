"""`fi-stream audit`: what it prints and writes, and how it ends."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any

import pytest
import stage as staging
from faulty import Halved, More

from fi_stream.cli.audit_picture import svg
from fi_stream.privacy.distinguishing import Claim, Tried, Verdict
from fi_stream.roles import accounts
from fi_stream.roles.audit import Audited

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Cli = Callable[..., tuple[int, str, str]]

PRIVACY = 'mechanism = "randomised_response"\nepsilon = 2.0\nbudget = 2.0\nledger = "budget.ledger"'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    policy: dict[str, Any] = {"form": "label", "rules": ("hard",)}
    directory = tmp_path / "federation"
    return staging.build(directory, "127.0.0.1:1", privacy=PRIVACY, policy=policy).file("p1")


def test_a_claim_that_holds_ends_well_with_its_report_and_its_picture(
    cli: Cli, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = (
        accounts.build
    )  # with more noise than it takes: just enough is blamed by chance at times
    monkeypatch.setattr(accounts, "build", lambda *given: More(build(*given)))
    report, picture = tmp_path / "audit.json", tmp_path / "audit.svg"
    code, out, err = cli("audit", file, "--samples", "4000", "--json", report, "--picture", picture)
    assert (code, err) == (0, "")
    found = json.loads(report.read_text())
    assert found["holds"] is True
    assert found["claim"] == {"epsilon": 2.0, "delta": 0.0}
    assert 0 < found["epsilon_at_least"] <= 2.0 < found["could_have_shown"]
    assert (found["confidence"], found["answers"]) == (0.999, 4000)
    assert found["guess"]["looks_at"] == "the label"
    assert "the claim holds" in out
    assert "sure to 99.9 %" in out
    drawn = ET.parse(picture)  # noqa: S314  (our own)
    texts = [each.text for each in drawn.iter() if each.text]
    assert "p1: randomised_response, epsilon 2 a row" in texts
    assert any(text.startswith("given away, at least") for text in texts)


def test_a_claim_that_is_refuted_ends_with_its_own_code_and_still_reports(
    cli: Cli, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = accounts.build
    monkeypatch.setattr(accounts, "build", lambda *given: Halved(build(*given)))
    report = tmp_path / "audit.json"
    code, out, err = cli("audit", file, "--samples", "4000", "--json", report)
    assert code == 11
    assert "the claim is refuted" in out
    assert "and 2 is claimed" in err
    assert json.loads(report.read_text())["epsilon_at_least"] > 2.0


def test_what_is_wrong_is_said(cli: Cli, file: Path) -> None:
    code, _, err = cli("audit", file, "--samples", "4000", "--json", file / "no" / "where")
    assert (code, "cannot be written" in err) == (3, True)
    assert cli("audit", file, "--samples", "10")[0] == 2
    file.write_text(file.read_text().partition("[privacy]")[0] + '[privacy]\nmechanism = "none"\n')
    federation = file.parent.parent / "federation.toml"
    code, _, err = cli("audit", file)
    assert (code, "nothing to audit" in err) == (3, True)
    assert federation.exists()


def test_a_picture_cuts_no_line_of_text_off() -> None:
    tried = Tried("the last digits of class 1's score, modulo 256", (90, 1), (99, 99), (0.8, 0.1))
    verdict = Verdict(Claim(2.0, 0.0), 3.0, 5.0, tried, 200_000, ((0, 0), (0.1, 0.9), (1, 1)))
    drawn = ET.fromstring(svg(Audited("a-hospital-" * 5, "randomised_response", verdict)))  # noqa: S314
    texts = [each for each in drawn.iter() if each.tag.endswith("text") and each.text]
    width = float(drawn.attrib["viewBox"].split()[2])
    for each in texts:
        if each.get("text-anchor") == "start":
            assert float(each.attrib["x"]) + 8 * len(each.text or "") <= width
    said = " ".join(each.text or "" for each in texts)
    assert "the last digits of class 1's score, modulo 256, 200000 answers" in said
