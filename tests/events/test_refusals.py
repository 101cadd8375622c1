"""The reasons are one closed list whose numbers on the wire never change."""

from __future__ import annotations

import pytest

from fi_stream.events.payloads import Abstain
from fi_stream.events.refusals import Reason

# Written down once. A new reason goes at the end; a line here is never changed or taken out.
CODES = {
    1: "malformed",
    2: "unsupported_version",
    3: "too_large",
    4: "wrong_topic",
    5: "wrong_partition",
    6: "wrong_task",
    7: "wrong_query",
    8: "unknown_roster",
    9: "unknown_member",
    10: "wrong_role",
    11: "unknown_epoch",
    12: "wrong_epoch",
    13: "expired_epoch",
    14: "second_grant",
    15: "bad_signature",
    16: "bad_tag",
    17: "decryption_failed",
    18: "replayed",
    19: "duplicate",
    20: "late",
    21: "deadline_too_far",
    22: "clock_skew",
    23: "rule_not_allowed",
    24: "protection_not_allowed",
    25: "wrong_form",
    26: "wrong_shape",
    27: "wrong_datatype",
    28: "not_finite",
    29: "not_a_prediction",
    30: "model_failed",
    31: "over_budget",
    32: "overloaded",
}


def test_every_reason_has_its_code_and_label_for_ever() -> None:
    now = {reason.code: reason.value for reason in Reason}
    assert now == now | CODES
    assert set(now) == set(range(1, len(Reason) + 1))


@pytest.mark.parametrize("reason", Reason)
def test_a_reason_is_found_by_its_code_and_fits_an_abstain(reason: Reason) -> None:
    assert Reason.from_code(reason.code) is reason
    assert Abstain(reason=reason.code).reason == reason.code


@pytest.mark.parametrize("code", [0, -1, 32768])
def test_a_code_that_nobody_gave_is_no_reason(code: int) -> None:
    assert Reason.from_code(code) is None
