"""The mechanism of one's own in docs/privacy.md keeps the laws, and its settings are read."""

from __future__ import annotations

import tomllib
from typing import Any

from documents import blocks, section, text_of

from fi_stream.federation.member import OwnMechanism, PrivacySection
from fi_stream.federation.policy import Form
from fi_stream.privacy.contract import broken_laws

SHOWN = section(text_of("docs/privacy.md"), "A mechanism of your own")


def test_the_mechanism_of_your_own_that_is_shown_keeps_the_laws() -> None:
    module, test = blocks(SHOWN, "python")
    scope: dict[str, Any] = {"__name__": "mypkg"}
    exec(compile(module, "mypkg.py", "exec"), scope)  # noqa: S102 - the document's own example
    assert "broken_laws(mechanism, classes=10, answers=20_000) == []" in test
    mechanism = scope["laplace"](epsilon=2.0, delta=0.0, classes=10, form=Form.PROBABILITIES)
    assert broken_laws(mechanism, classes=10, answers=20_000) == []


def test_its_section_is_read() -> None:
    (toml,) = blocks(SHOWN, "toml")
    section_of = PrivacySection.model_validate(tomllib.loads(toml)["privacy"])
    assert section_of.mechanism == "mypkg:laplace"
    assert isinstance(section_of.mechanism, OwnMechanism)
