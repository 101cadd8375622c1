"""What a client makes of a result's payload: a certificate is whole, or the result is refused."""

from __future__ import annotations

import numpy as np
import pytest

from fi_stream.events.header import Ask
from fi_stream.events.payloads import Outcome, ResultPayload
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.events.tensors import Tensor, to_tensor
from fi_stream.roles.result import Result, read_result

CLASSES = ("cat", "dog")
ASK = Ask(
    query=bytes(16),
    partition=0,
    rule="soft",
    rows=2,
    protection="trusted",
    created=0,
    deadline=500,
)
DECIDED = {
    "label": np.array([0, 1]),
    "scores": np.array([[0.9, 0.1], [0.2, 0.8]]),
}
CERTIFIED = {"withstands": np.array([1, 0]), "margin": np.array([0.8, 0.6])}


def read(**outputs: np.ndarray) -> Result | Refusal:
    tensors = [to_tensor(name, values) for name, values in outputs.items()]
    payload = ResultPayload(
        outcome=Outcome.COMPLETE, outputs=tuple(one for one in tensors if isinstance(one, Tensor))
    )
    return read_result(ASK, payload, CLASSES, 1.0)


def test_a_certificate_is_read_with_the_labels() -> None:
    result = read(**DECIDED, **CERTIFIED)
    assert isinstance(result, Result)
    said = result.to_dict()
    assert (said["withstands"], said["margin"]) == ([1, 0], [0.8, 0.6])


def test_labels_may_have_none() -> None:
    result = read(**DECIDED)
    assert isinstance(result, Result)
    assert result.labels == ["cat", "dog"]
    assert (result.to_dict()["withstands"], result.to_dict()["margin"]) == (None, None)


@pytest.mark.parametrize(
    "certified",
    [
        {"withstands": CERTIFIED["withstands"]},
        {"margin": CERTIFIED["margin"]},
        {**CERTIFIED, "margin": np.array([0.8])},
        {**CERTIFIED, "withstands": np.array([[1, 0]])},
    ],
)
def test_half_a_certificate_is_none(certified: dict[str, np.ndarray]) -> None:
    found = read(**DECIDED, **certified)
    assert isinstance(found, Refusal)
    assert found.reason is Reason.WRONG_SHAPE
