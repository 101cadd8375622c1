from __future__ import annotations

import pytest

from fi_stream.events.tensors import Datatype
from fi_stream.federation.task import Task, TensorSpec


@pytest.fixture
def task() -> Task:
    return Task(
        kind="multiclass",
        classes=("cat", "dog", "owl"),
        inputs=(TensorSpec(name="x", datatype=Datatype.FP32, shape=(4,)),),
    )
