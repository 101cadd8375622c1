from __future__ import annotations

import json
import math

import pytest

from fi_stream.errors import ConfigError
from fi_stream.events.payloads import Noise
from fi_stream.federation.policy import Protection
from fi_stream.privacy.guarantee import EXAMPLE, UNIT, Guarantee, guarantee


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


def test_under_blind_the_client_sees_noised_answers_and_the_aggregator_none() -> None:
    said = guarantee(Protection.BLIND, [noise(1.0, 3.0)])
    assert said is not None
    assert (said.against, said.blind, said.all_seeing) == (("client",), ("aggregator",), ())
    assert "Against the client, " in said.sentence
    assert "the aggregator sees no answer, only ciphertexts" in said.sentence
    assert "contributors declare their noise" in said.sentence


def test_under_secagg_no_role_but_the_client_learns_anything_by_itself() -> None:
    said = guarantee(Protection.SECAGG, [noise(1.0, 3.0, "gaussian", 1e-6)] * 4, honest=3)
    assert said is not None
    assert (said.against, said.blind, said.honest) == (("client",), ("leader", "helper"), 3)
    assert "the leader and the helper, each alone, see nothing of any answer" in said.sentence
    assert "while at least 3 contributors are honest" in said.sentence
    assert "epsilon 1 for this query and 3 for all" in said.sentence


def test_under_secagg_nothing_is_promised_without_saying_how_many_are_honest() -> None:
    with pytest.raises(ConfigError, match="k_min"):
        guarantee(Protection.SECAGG, [noise(1.0, 3.0, "gaussian", 1e-6)])


@pytest.mark.parametrize("protection", Protection)
def test_without_noise_epsilon_is_infinite_under_every_level(protection: Protection) -> None:
    said = guarantee(protection, [None, noise(1.0, 1.0)])
    assert said is not None
    assert math.isinf(said.epsilon_query)
    assert math.isinf(said.epsilon_total)
    assert said.honest is None
    assert "epsilon is infinite" in said.sentence
    assert "client" in said.sentence
    assert ("sum" in said.sentence) == (protection is Protection.SECAGG)


def test_noise_of_the_aggregator_counts_against_the_client_alone() -> None:
    said = guarantee(Protection.TRUSTED, [None] * 5, central=noise(1.0, 4.0, "permute_and_flip"))
    assert said is not None
    assert (said.epsilon_query, said.epsilon_total, said.delta) == (1.0, 4.0, 0.0)
    assert (said.against, said.all_seeing) == (("client",), ("aggregator",))
    assert said.sentence.startswith("Against the client alone, ")
    assert "the aggregator, which adds the noise, sees every answer" in said.sentence
    assert UNIT in said.sentence


def test_votes_of_shards_protect_an_example_and_no_more() -> None:
    shards = noise(1.0, 3.0, "noisy_max")
    assert of(shards).unit == EXAMPLE
    assert of(shards, noise(2.0, 2.0)).unit == EXAMPLE
    assert of(shards, noise(2.0, 2.0)).epsilon_query == 2.0
    assert of(noise(2.0, 2.0)).unit == UNIT
    assert EXAMPLE in of(shards).sentence


def test_a_long_stream_is_named_so_under_every_level() -> None:
    long = noise(1.0, 10.01, "gaussian", 1e-6)
    for said in (
        guarantee(Protection.TRUSTED, [long]),
        guarantee(Protection.BLIND, [long]),
        guarantee(Protection.SECAGG, [long], honest=2),
        guarantee(Protection.TRUSTED, [None], central=long),
    ):
        assert said is not None
        assert said.per_query_only
        assert "per-query noise only, no stream-level privacy" in said.sentence


def test_every_fact_is_in_the_json() -> None:
    said = guarantee(Protection.SECAGG, [noise(1.0, 3.0, "gaussian", 1e-6)], honest=2)
    assert said is not None
    facts = said.to_dict()
    assert facts["blind"] == ["leader", "helper"]
    assert facts["all_seeing"] == []
    assert facts["honest"] == 2
    assert facts["declared"] is True
    assert facts["per_query_only"] is False
