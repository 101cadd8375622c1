"""The one closed list of reasons to refuse an event or to abstain (DESIGN 3)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why an event was refused, or a participant abstained; the value is the metric label."""

    MALFORMED = "malformed"
    UNSUPPORTED_VERSION = "unsupported_version"
    TOO_LARGE = "too_large"
    WRONG_TOPIC = "wrong_topic"
    WRONG_PARTITION = "wrong_partition"
    WRONG_TASK = "wrong_task"
    WRONG_QUERY = "wrong_query"
    UNKNOWN_ROSTER = "unknown_roster"
    UNKNOWN_MEMBER = "unknown_member"
    WRONG_ROLE = "wrong_role"
    UNKNOWN_EPOCH = "unknown_epoch"
    WRONG_EPOCH = "wrong_epoch"
    EXPIRED_EPOCH = "expired_epoch"
    SECOND_GRANT = "second_grant"
    BAD_SIGNATURE = "bad_signature"
    BAD_TAG = "bad_tag"
    DECRYPTION_FAILED = "decryption_failed"
    REPLAYED = "replayed"
    DUPLICATE = "duplicate"
    LATE = "late"
    DEADLINE_TOO_FAR = "deadline_too_far"
    CLOCK_SKEW = "clock_skew"
    RULE_NOT_ALLOWED = "rule_not_allowed"
    PROTECTION_NOT_ALLOWED = "protection_not_allowed"
    WRONG_FORM = "wrong_form"
    WRONG_SHAPE = "wrong_shape"
    WRONG_DATATYPE = "wrong_datatype"
    NOT_FINITE = "not_finite"
    NOT_A_PREDICTION = "not_a_prediction"
    MODEL_FAILED = "model_failed"
    OVER_BUDGET = "over_budget"
    OVERLOADED = "overloaded"
    REVOKED = "revoked"
    SECOND_ROSTER = "second_roster"
    BAD_SHARE = "bad_share"
    SECOND_SET = "second_set"
    TOO_FEW_ANSWERS = "too_few_answers"
    SUM_OUT_OF_RANGE = "sum_out_of_range"
    INDEPENDENT = "independent"

    @property
    def code(self) -> int:
        """The number on the wire; never reused for another meaning."""
        return _CODES[self]

    @classmethod
    def from_code(cls, code: int) -> Reason | None:
        """The reason of a wire code, or None when a later version made it."""
        return _REASONS.get(code)

    @property
    def poison(self) -> bool:
        """Whether a record refused for this is kept as a dead letter (DESIGN 8.8)."""
        return self in _POISON


_CODES = {reason: code for code, reason in enumerate(Reason, start=1)}
_REASONS = {code: reason for reason, code in _CODES.items()}

_POISON = frozenset(
    {
        Reason.MALFORMED,
        Reason.UNSUPPORTED_VERSION,
        Reason.TOO_LARGE,
        Reason.WRONG_TOPIC,
        Reason.WRONG_PARTITION,
        Reason.WRONG_TASK,
        Reason.UNKNOWN_MEMBER,
        Reason.WRONG_ROLE,
        Reason.WRONG_EPOCH,
        Reason.SECOND_GRANT,
        Reason.BAD_SIGNATURE,
        Reason.BAD_TAG,
        Reason.DECRYPTION_FAILED,
        Reason.SECOND_ROSTER,
    }
)
"""What no member that follows the protocol and has this federation's files puts on a topic.

The others are ordinary traffic: copies, what came too late or before its grant, members at another
version of the roster, and queries and answers that get a reason in a response or result.
"""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An event that was not accepted, or an answer that was not given.

    `detail` is for people and never holds content of a payload.
    """

    reason: Reason
    detail: str = ""
