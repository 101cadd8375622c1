from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any, cast

import pytest

from fi_stream.federation.member import Mechanism, PrivacySection
from fi_stream.federation.policy import Form, NoisyMaxPolicy, Policy, Protection
from fi_stream.privacy.allowed import CENTRAL, as_markdown
from fi_stream.privacy.compatibility import (
    first_refusal,
    refuse,
    refuse_aggregator,
    refuse_policy,
    refuse_privacy,
)

if TYPE_CHECKING:
    from pathlib import Path

RULES = (
    "hard",
    "soft",
    "entropy",
    "competence_entropy",
    "competence_energy",
    "competence_density",
    "tta_mean",
    "tta_js",
    "consensus",
    "median",
    "spectral",
    "hybrid",
    "mypkg:my_rule",
)
TRUSTED, BLIND, SECAGG = Protection.TRUSTED, Protection.BLIND, Protection.SECAGG
SUMS = set(RULES) - {"consensus", "median", "spectral", "hybrid", "mypkg:my_rule"}
OWN = {"mypkg:my_rule"}
VOTES = {"hard", "soft"}
ALLOWED: dict[tuple[Mechanism, Form, Protection], set[str]] = {
    **{(Mechanism.NONE, Form.PROBABILITIES, one): set(RULES) for one in (TRUSTED, BLIND)},
    (Mechanism.NONE, Form.PROBABILITIES, SECAGG): SUMS,
    **{(Mechanism.NONE, Form.LABEL, protection): VOTES | OWN for protection in (TRUSTED, BLIND)},
    **{
        (mechanism, Form.LABEL, protection): VOTES
        for mechanism in (Mechanism.RANDOMISED_RESPONSE, Mechanism.NOISY_MAX)
        for protection in (TRUSTED, BLIND)
    },
    (Mechanism.GAUSSIAN, Form.PROBABILITIES, TRUSTED): VOTES,
    (Mechanism.GAUSSIAN, Form.PROBABILITIES, BLIND): VOTES,
    (Mechanism.GAUSSIAN, Form.PROBABILITIES, SECAGG): SUMS,
}


@pytest.mark.parametrize(
    ("mechanism", "form", "rule", "protection"), list(product(Mechanism, Form, RULES, Protection))
)
def test_what_goes_with_what(
    mechanism: Mechanism, form: Form, rule: str, protection: Protection
) -> None:
    reason = refuse(form, rule, mechanism, protection)
    if rule in ALLOWED.get((mechanism, form, protection), set()):
        assert reason is None
    else:
        assert reason is not None
        assert "Use " in reason


def why(form: Form, rule: str, mechanism: Mechanism, protection: Protection = TRUSTED) -> str:
    return refuse(form, rule, mechanism, protection) or "allowed"


def test_a_refusal_names_the_nearest_allowed_choice() -> None:
    no_entropy = why(Form.PROBABILITIES, "entropy", Mechanism.GAUSSIAN)
    assert "Use rule 'soft' or 'hard'" in no_entropy
    wrong_form = why(Form.PROBABILITIES, "hard", Mechanism.RANDOMISED_RESPONSE)
    assert "Use form 'label', or mechanism 'none' or 'gaussian'" in wrong_form
    wrong_rule = why(Form.LABEL, "entropy", Mechanism.NONE)
    assert "Use rule 'hard' or 'soft', or form 'probabilities'" in wrong_rule
    no_sum = why(Form.LABEL, "hard", Mechanism.RANDOMISED_RESPONSE, SECAGG)
    assert "Use protection 'trusted' or 'blind'" in no_sum
    assert "or form 'probabilities' with mechanism 'none' or 'gaussian'" in no_sum


def test_every_refusal_leads_somewhere_that_is_allowed() -> None:
    for mechanism, form, rule, protection in product(Mechanism, Form, RULES, Protection):
        reason = refuse(form, rule, mechanism, protection)
        if reason is None:
            continue
        advice = reason.rpartition("Use ")[2]
        named = {
            "form": [one for one in Form if f"'{one}'" in advice] or [form],
            "rule": [one for one in RULES if f"'{one}'" in advice] or [rule],
            "mechanism": [one for one in Mechanism if f"'{one}'" in advice] or [mechanism],
            "protection": [one for one in Protection if f"'{one}'" in advice] or [protection],
        }
        tried = product(
            *(
                {*named[key], old}
                for key, old in (
                    ("form", form),
                    ("rule", rule),
                    ("mechanism", mechanism),
                    ("protection", protection),
                )
            )
        )
        assert any(refuse(*one) is None for one in tried), reason


def policy(**changes: Any) -> Policy:
    return Policy(**{"form": Form.PROBABILITIES, "rules": ("soft",), **changes})


def test_a_policy_is_refused_for_a_rule_that_nobody_knows_or_that_its_form_cannot_feed() -> None:
    assert "use rule 'soft'" in (refuse_policy(policy(rules=("soft", "mode"))) or "")
    entropy = policy(form=Form.LABEL, rules=("hard", "entropy"))
    assert "or form 'probabilities'" in (refuse_policy(entropy) or "")
    assert refuse_policy(policy(rules=RULES)) is None
    assert refuse_policy(policy(form=Form.LABEL, rules=("hard",))) is None
    assert refuse_policy(policy(rules=tuple(SUMS), protections=tuple(Protection))) is None
    median = refuse_policy(policy(rules=("soft", "median"), protections=(TRUSTED, SECAGG)))
    assert "'median' cannot read form 'probabilities' under protection 'secagg'" in (median or "")


def test_a_policy_of_labels_is_refused_under_secagg_with_the_form_that_can_be_added_up() -> None:
    labels = policy(form=Form.LABEL, rules=("hard",), protections=(TRUSTED, SECAGG))
    reason = refuse_policy(labels) or ""
    assert "form 'label' does not go with protection 'secagg'" in reason
    assert "form 'probabilities'" in reason


def test_a_protection_that_no_line_names_is_refused() -> None:
    later = cast("Protection", "mpc")
    reason = refuse(Form.LABEL, "hard", Mechanism.RANDOMISED_RESPONSE, later)
    assert reason is not None
    assert "Use protection 'trusted'" in reason


def test_an_unknown_rule_is_refused_everywhere() -> None:
    assert all(
        refuse(form, "mode", mechanism, protection) for mechanism, form, protection in ALLOWED
    )


def test_the_first_bad_combination_of_a_policy_is_told() -> None:
    reason = first_refusal(Form.PROBABILITIES, ("soft", "entropy"), Mechanism.GAUSSIAN, (TRUSTED,))
    assert reason is not None
    assert "'entropy'" in reason
    assert first_refusal(Form.PROBABILITIES, RULES, Mechanism.NONE, (TRUSTED,)) is None


CENTRAL_POLICY = {
    "form": Form.LABEL,
    "rules": ("hard",),
    "early_exit": False,
    "noisy_max": NoisyMaxPolicy(epsilon=2.0),
}


@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        ({"form": Form.PROBABILITIES}, "use 'label'"),
        ({"rules": ("hard", "soft")}, "use 'hard'"),
        ({"protections": (TRUSTED, BLIND)}, "use 'trusted'"),
        ({"early_exit": True}, "use false"),
    ],
)
def test_noise_of_the_aggregator_wants_labels_votes_trust_and_no_early_exit(
    changes: dict[str, Any], advice: str
) -> None:
    assert refuse_policy(Policy(**CENTRAL_POLICY)) is None
    reason = refuse_policy(Policy(**{**CENTRAL_POLICY, **changes})) or ""
    assert "[policy.noisy_max]" in reason
    assert advice in reason


def section(mechanism: Mechanism, path: Path, **more: Any) -> PrivacySection:
    if mechanism is Mechanism.NONE:
        return PrivacySection(mechanism=mechanism)
    delta = {"delta": 1e-6} if mechanism is Mechanism.GAUSSIAN else {}
    given = {"epsilon": 1.0, "budget": 10.0, "ledger": path / "ledger", **delta, **more}
    return PrivacySection(mechanism=mechanism, **given)


def test_where_the_aggregator_adds_the_noise_no_participant_does(tmp_path: Path) -> None:
    central = Policy(**CENTRAL_POLICY)
    assert refuse_privacy(central, section(Mechanism.NONE, tmp_path)) is None
    for mechanism in (Mechanism.RANDOMISED_RESPONSE, Mechanism.NOISY_MAX):
        reason = refuse_privacy(central, section(mechanism, tmp_path)) or ""
        assert 'Use mechanism "none"' in reason


def test_an_aggregator_that_adds_the_noise_needs_a_budget_that_allows_it(tmp_path: Path) -> None:
    central = Policy(**CENTRAL_POLICY)
    mine = section(Mechanism.NOISY_MAX, tmp_path, epsilon=2.0)
    assert refuse_aggregator(central, mine) is None
    assert refuse_aggregator(policy(), None) is None
    assert 'mechanism = "noisy_max"' in (refuse_aggregator(central, None) or "")
    other = section(Mechanism.RANDOMISED_RESPONSE, tmp_path)
    assert 'mechanism = "noisy_max"' in (refuse_aggregator(central, other) or "")
    less = section(Mechanism.NOISY_MAX, tmp_path, epsilon=1.0)
    assert "Use epsilon = 2 or more" in (refuse_aggregator(central, less) or "")


def test_a_weight_that_no_rule_reads_is_refused(tmp_path: Path) -> None:
    weighted = section(Mechanism.RANDOMISED_RESPONSE, tmp_path, weight_levels=4)
    votes = Policy(form=Form.LABEL, rules=("hard",))
    assert "Use weight_levels = 1, or rule 'soft'" in (refuse_privacy(votes, weighted) or "")
    assert refuse_privacy(Policy(form=Form.LABEL, rules=("soft",)), weighted) is None


def test_the_printed_table_has_every_mechanism_and_protection() -> None:
    table = as_markdown()
    for name in (*Mechanism, *Protection, *(set(RULES) - OWN), "[policy.noisy_max]"):
        assert f"`{name}`" in table
    assert "`tta_js`, your own" in table
    assert CENTRAL.why in table
    assert len({line.count("|") for line in table.splitlines()}) == 1


@pytest.mark.parametrize("key", [{"gate": True}, {"weight_share": 0.4}, {"confidence_cap": 0.9}])
def test_what_needs_each_answer_in_the_clear_goes_with_trusted_and_blind_alone(
    key: dict[str, Any],
) -> None:
    (name,) = key
    for protections in ((TRUSTED,), (BLIND,), (TRUSTED, BLIND)):
        assert refuse_policy(policy(rules=("entropy",), protections=protections, **key)) is None
    for protections in ((SECAGG,), (TRUSTED, SECAGG)):
        sums = refuse_policy(policy(rules=("entropy",), protections=protections, **key)) or ""
        assert f"Use protections 'trusted' or 'blind', or remove {name}" in sums
    central = refuse_policy(Policy(**{**CENTRAL_POLICY, **key})) or ""
    assert f"nor with {name}" in central or f"go with {name}" in central
    assert "remove it" in central


def test_confidence_that_nobody_can_see_is_not_bounded(tmp_path: Path) -> None:
    votes = refuse_policy(policy(form=Form.LABEL, rules=("hard",), confidence_cap=0.9)) or ""
    assert "Use form 'probabilities', or remove it" in votes
    noised = section(Mechanism.GAUSSIAN, tmp_path)
    capped = policy(rules=("soft",), confidence_cap=0.9)
    assert 'Use mechanism "none"' in (refuse_privacy(capped, noised) or "")
    assert refuse_privacy(capped, section(Mechanism.NONE, tmp_path)) is None
