"""Frozen, strictly validated values, and the units that keep clocks and costs apart."""

from __future__ import annotations

from typing import Annotated, NewType

from annotated_types import Ge, Le, Len
from pydantic import BaseModel, ConfigDict, StringConstraints

BrokerMillis = NewType("BrokerMillis", int)
"""Milliseconds since 1970 by the broker's clock: deadlines and append times."""

Millis = NewType("Millis", int)
"""A span of time in milliseconds."""

Instant = NewType("Instant", float)
"""Seconds of the local monotonic clock: timers."""

MemberId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?$")]
"""A member's name: lower case letters, digits, dots, dashes; at most 64 characters."""

Counter = Annotated[int, Ge(0), Le(2**63 - 1)]
Bytes16 = Annotated[bytes, Len(16, 16)]
Bytes32 = Annotated[bytes, Len(32, 32)]


class Value(BaseModel):
    """Base of our frozen values: types are never coerced, unknown fields are ignored."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="ignore", hide_input_in_errors=True, ser_json_bytes="base64"
    )
