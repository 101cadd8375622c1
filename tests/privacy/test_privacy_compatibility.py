from __future__ import annotations

from itertools import product
from typing import cast

import pytest

from fi_stream.federation.member import Mechanism
from fi_stream.federation.policy import Form, Protection
from fi_stream.privacy.compatibility import as_markdown, first_refusal, refuse, refuse_policy

RULES = ("hard", "soft", "entropy")
ALLOWED = {
    (Mechanism.NONE, Form.PROBABILITIES): {"hard", "soft", "entropy"},
    (Mechanism.NONE, Form.LABEL): {"hard"},
    (Mechanism.RANDOMISED_RESPONSE, Form.LABEL): {"hard"},
    (Mechanism.GAUSSIAN, Form.PROBABILITIES): {"hard", "soft"},
}


@pytest.mark.parametrize(("mechanism", "form", "rule"), list(product(Mechanism, Form, RULES)))
def test_what_goes_with_what(mechanism: Mechanism, form: Form, rule: str) -> None:
    reason = refuse(form, rule, mechanism)
    if rule in ALLOWED.get((mechanism, form), set()):
        assert reason is None
    else:
        assert reason is not None
        assert "Use " in reason


def why(form: Form, rule: str, mechanism: Mechanism) -> str:
    return refuse(form, rule, mechanism) or "allowed"


def test_a_refusal_names_the_nearest_allowed_choice() -> None:
    no_entropy = why(Form.PROBABILITIES, "entropy", Mechanism.GAUSSIAN)
    assert "Use rule 'soft' or 'hard'" in no_entropy
    wrong_form = why(Form.PROBABILITIES, "hard", Mechanism.RANDOMISED_RESPONSE)
    assert "Use form 'label', or mechanism 'none' or 'gaussian'" in wrong_form
    wrong_rule = why(Form.LABEL, "soft", Mechanism.NONE)
    assert "Use rule 'hard', or form 'probabilities' with mechanism 'none'" in wrong_rule


def test_a_policy_is_refused_for_a_rule_that_nobody_knows_or_that_its_form_cannot_feed() -> None:
    assert "use rule 'soft'" in (refuse_policy(Form.PROBABILITIES, ("soft", "median")) or "")
    assert "or form 'probabilities'" in (refuse_policy(Form.LABEL, ("hard", "entropy")) or "")
    assert refuse_policy(Form.PROBABILITIES, RULES) is None
    assert refuse_policy(Form.LABEL, ("hard",)) is None


def test_a_protection_that_no_line_names_is_refused() -> None:
    later = cast("Protection", "mpc")
    reason = refuse(Form.LABEL, "hard", Mechanism.RANDOMISED_RESPONSE, later)
    assert reason is not None
    assert "Use protection 'trusted'" in reason


def test_an_unknown_rule_is_refused_everywhere() -> None:
    assert all(refuse(form, "median", mechanism) for mechanism, form in ALLOWED)


def test_the_first_bad_combination_of_a_policy_is_told() -> None:
    reason = first_refusal(
        Form.PROBABILITIES, ("soft", "entropy"), Mechanism.GAUSSIAN, (Protection.TRUSTED,)
    )
    assert reason is not None
    assert "'entropy'" in reason
    assert first_refusal(Form.PROBABILITIES, RULES, Mechanism.NONE, (Protection.TRUSTED,)) is None


def test_the_printed_table_has_every_mechanism_and_protection() -> None:
    table = as_markdown()
    for name in (*Mechanism, *Protection, *RULES):
        assert f"`{name}`" in table
    assert len({line.count("|") for line in table.splitlines()}) == 1
