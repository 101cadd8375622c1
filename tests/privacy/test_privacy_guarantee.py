from __future__ import annotations

import json
import math

from fi_stream.events.payloads import Noise
from fi_stream.federation.policy import Protection
from fi_stream.privacy.guarantee import UNIT, Guarantee, guarantee


def noise(
    epsilon: float, total: float, mechanism: str = "randomised_response", delta: float = 0.0
) -> Noise:
    return Noise(mechanism=mechanism, epsilon=epsilon, total=total, delta=delta)


def of(*declared: Noise | None) -> Guarantee:
    said = guarantee(Protection.TRUSTED, declared)
    assert said is not None
    return said


def test_the_least_protected_contributor_counts() -> None:
    said = of(noise(1.0, 3.0), noise(2.0, 2.0), noise(0.5, 9.0, "gaussian", 1e-6))
    assert (said.epsilon_query, said.epsilon_total, said.delta) == (2.0, 9.0, 1e-6)
    assert said.mechanism == "gaussian and randomised_response"


def test_one_contributor_without_noise_leaves_no_guarantee() -> None:
    said = of(noise(1.0, 1.0), None)
    assert math.isinf(said.epsilon_query)
    assert math.isinf(said.epsilon_total)
    assert "epsilon is infinite" in said.sentence


def test_nobody_contributed_and_nothing_is_said() -> None:
    assert guarantee(Protection.TRUSTED, ()) is None


def test_every_sentence_names_the_unit_the_readers_and_that_noise_is_declared() -> None:
    for said in (of(noise(1.0, 3.0)), of(noise(8.0, 800.0)), of(None)):
        sentence = " ".join(said.sentence.split())
        assert UNIT in sentence
        assert "contributors declare their noise" in sentence
        assert "aggregator" in sentence
        assert "client" in sentence


def test_a_long_stream_is_not_called_private() -> None:
    warning = "per-query noise only, no stream-level privacy"
    assert warning in of(noise(1.0, 10.01)).sentence
    assert warning not in of(noise(1.0, 10.0)).sentence


def test_a_shown_epsilon_is_never_below_the_true_one() -> None:
    assert "epsilon 0.1235 for" in of(noise(0.12341, 3.0)).sentence
    assert "epsilon 8 for" in of(noise(8.0, 9.0)).sentence


def test_json_has_the_word_infinite_and_no_infinity() -> None:
    text = json.dumps(of(None, noise(1.0, 1.0)).to_dict(), allow_nan=False)
    assert json.loads(text)["epsilon"] == {
        "per_query": "infinite",
        "total": "infinite",
        "unit": UNIT,
        "delta": 0.0,
    }


def test_json_holds_what_the_guarantee_says() -> None:
    said = of(noise(2.0, 4.0, "gaussian", 1e-6)).to_dict()
    assert said["protection"] == "trusted"
    assert said["mechanism"] == "gaussian"
    assert said["against"] == ["aggregator", "client"]
    assert said["epsilon"] == {"per_query": 2.0, "total": 4.0, "unit": UNIT, "delta": 1e-6}
