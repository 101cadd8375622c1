from __future__ import annotations

import math
import re

from documents import section, tables, text_of

from fi_stream.events.payloads import Noise
from fi_stream.federation.policy import Protection
from fi_stream.privacy.guarantee import EXAMPLE, STREAM_LIMIT, UNIT, Guarantee, guarantee
from fi_stream.privacy.profile import rho_of_epsilon

TEXT = text_of("docs/privacy.md")


def test_the_odds_are_those_of_the_definition() -> None:
    (rows,) = tables(section(TEXT, "What is protected"))
    for row in rows:
        odds = math.exp(float(row["epsilon"]))
        said = float(row["odds change by at most"].replace(",", ""))
        assert math.isclose(said, odds, rel_tol=0.05)
        guess = float(row["a guess of 1 in 2 becomes at most"].rstrip(" %"))
        assert math.isclose(guess, 100 * odds / (1 + odds), rel_tol=0.01)


def test_so_many_rows_stay_within_the_limit_of_a_stream() -> None:
    (rows,) = tables(section(TEXT, "For how many queries"))
    whole = rho_of_epsilon(STREAM_LIMIT, 1e-5)
    for row in rows:
        epsilon, labels, gaussian = map(float, row.values())
        assert labels == int(STREAM_LIMIT / epsilon + 1e-9)
        assert gaussian == int(whole / rho_of_epsilon(epsilon, 1e-5))


def test_the_units_are_those_that_results_name() -> None:
    plain = re.sub(r"[*\s]+", " ", TEXT)
    assert UNIT.partition(" (")[0] in plain
    assert "one example of your data" in plain
    assert EXAMPLE.startswith("one example")
    assert "per-query noise only, no stream-level privacy" in plain


def noise(mechanism: str, delta: float = 0.0, total: float = 6.0) -> Noise:
    return Noise(mechanism=mechanism, epsilon=2.0, delta=delta, total=total)


def sentences() -> list[str]:
    """What the document says of each level, a line each."""
    label, summed = noise("randomised_response"), noise("gaussian", 1e-5)
    told = {
        "`trusted`": guarantee(Protection.TRUSTED, [label]),
        "`blind`": guarantee(Protection.BLIND, [noise("gaussian", 1e-5, 12.0)]),
        "`secagg`": guarantee(Protection.SECAGG, [summed], honest=3),
        "`trusted`, with `[policy.noisy_max]`": guarantee(
            Protection.TRUSTED, [None], central=noise("permute_and_flip")
        ),
    }
    return [f"- {level}: {said.sentence}" for level, said in told.items() if said is not None]


def test_the_sentences_are_those_that_results_say() -> None:
    plain = " ".join(section(TEXT, "What a result says").split())
    for line in sentences():
        assert line in plain


def test_every_fact_of_a_result_is_explained() -> None:
    facts = tables(section(TEXT, "What a result says"))[0]
    assert [row["fact"] for row in facts] == [*Guarantee.__dataclass_fields__, "per_query_only"]
