from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fi_stream.errors import QueryError
from fi_stream.events.query_id import made_at, new_query_id, partition_of, read_query_id
from fi_stream.values import BrokerMillis

MILLIS = st.integers(0, 2**48 - 1).map(BrokerMillis)


@given(
    MILLIS,
    st.integers(1, 2**31 - 1).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n - 1))),
)
def test_an_id_says_its_partition_and_its_time_and_is_a_uuid_of_version_7(
    at: BrokerMillis, place: tuple[int, int]
) -> None:
    partitions, partition = place
    query = new_query_id(at, partition, partitions)
    assert partition_of(query, partitions) == partition
    assert made_at(query) == at
    assert uuid.UUID(bytes=query).version == 7
    assert read_query_id(query.hex()) == read_query_id(str(uuid.UUID(bytes=query))) == query


def test_ids_of_one_partition_and_one_millisecond_are_all_different() -> None:
    assert len({new_query_id(BrokerMillis(1), 3, 4) for _ in range(1000)}) == 1000


@pytest.mark.parametrize(
    "text", ["", "nonsense", "00" * 16, "ff" * 16, str(uuid.uuid4()), "01" * 15]
)
def test_what_is_no_query_id_is_refused_with_what_one_looks_like(text: str) -> None:
    with pytest.raises(QueryError, match="is no query id: those are 32 hexadecimal digits"):
        read_query_id(text)
