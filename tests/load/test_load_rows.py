"""Random rows fit the task they are made for."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fi_stream.events.refusals import Refusal
from fi_stream.events.tensors import Datatype
from fi_stream.federation.rows import decode_rows, encode_rows
from fi_stream.federation.task import Task, TensorSpec
from fi_stream.roles.load_rows import random_rows

SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple)


@st.composite
def tasks(draw: st.DrawFn) -> Task:
    types = draw(st.lists(st.sampled_from(Datatype), min_size=1, max_size=4))
    inputs = tuple(
        TensorSpec(name=f"input{n}", datatype=datatype, shape=draw(SHAPES))
        for n, datatype in enumerate(types)
    )
    return Task(kind="multiclass", classes=("a", "b"), inputs=inputs)


def one(datatype: Datatype, *shape: int) -> Task:
    spec = TensorSpec(name="x", datatype=datatype, shape=shape)
    return Task(kind="multiclass", classes=("a", "b"), inputs=(spec,))


@given(task=tasks(), seed=st.integers(0, 2**32))
def test_every_random_row_is_a_query_of_its_task(task: Task, seed: int) -> None:
    for row in random_rows(task, seed)[:3]:
        count, tensors = encode_rows(row, task)
        assert count == 1
        assert not isinstance(decode_rows(tensors, count, task), Refusal)


def test_a_seed_names_the_rows_and_they_differ_from_one_another() -> None:
    task = one(Datatype.FP32, 4)
    first, again, other = (random_rows(task, seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a["x"], b["x"]) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0]["x"], other[0]["x"])
    assert len({row["x"].tobytes() for row in first}) == len(first)


def test_floats_are_standard_normal_and_integers_small() -> None:
    floats = np.stack([row["x"] for row in random_rows(one(Datatype.FP64, 100), 3)])
    assert abs(floats.mean()) < 0.02
    assert abs(floats.std() - 1) < 0.02
    integers = np.stack([row["x"] for row in random_rows(one(Datatype.INT8, 100), 3)])
    assert set(integers.ravel()) == set(range(10))


def test_large_rows_make_a_small_pool() -> None:
    rows = random_rows(one(Datatype.UINT8, 3, 1024, 1024), 0)
    assert len(rows) == 1
    assert sum(row["x"].nbytes for row in random_rows(one(Datatype.FP64, 1000), 0)) < 2**25
