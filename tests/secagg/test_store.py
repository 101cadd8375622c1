"""One set for each query, for ever: whoever asks, whatever the clocks say."""

from __future__ import annotations

import multiprocessing
import sqlite3
import stat
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fi_stream.errors import ConfigError
from fi_stream.secagg.sets import Identity, is_canonical, set_digest
from fi_stream.secagg.store import Entry, Recorded, ReleaseStore
from fi_stream.values import BrokerMillis

if TYPE_CHECKING:
    from pathlib import Path


def entry(query: int, members: int, deadline: int = 1000) -> Entry:
    return Entry(query.to_bytes(32, "big"), members.to_bytes(32, "big"), BrokerMillis(deadline))


def test_the_first_set_counts_and_any_other_is_refused_for_ever(tmp_path: Path) -> None:
    file = tmp_path / "store"
    with ReleaseStore(file) as store:
        assert store.record([entry(1, 7)]) == [Recorded.NEW]
        assert store.record([entry(1, 8), entry(1, 7)]) == [Recorded.ANOTHER, Recorded.SAME]
    with ReleaseStore(file) as store:
        assert store.record([entry(1, 8), entry(1, 7)]) == [Recorded.ANOTHER, Recorded.SAME]
        assert len(store) == 1


def test_two_sets_of_one_query_in_one_batch_are_told_apart(tmp_path: Path) -> None:
    with ReleaseStore(tmp_path / "store") as store:
        found = store.record([entry(1, 7), entry(1, 8), entry(2, 8)])
    assert found == [Recorded.NEW, Recorded.ANOTHER, Recorded.NEW]


def test_replicas_that_share_the_file_agree(tmp_path: Path) -> None:
    with ReleaseStore(tmp_path / "store") as one, ReleaseStore(tmp_path / "store") as other:
        assert one.record([entry(1, 7)]) == [Recorded.NEW]
        assert other.record([entry(1, 8)]) == [Recorded.ANOTHER]
        assert other.record([entry(1, 7)]) == [Recorded.SAME]
        other.forget(BrokerMillis(1000))
        assert one.record([entry(1, 8)]) == [Recorded.FORGOTTEN]


def _race(
    file: Path, members: int, found: multiprocessing.SimpleQueue[tuple[int, list[str]]]
) -> None:
    with ReleaseStore(file) as store:
        said = [store.record([entry(query, members)])[0] for query in range(200)]
    found.put((members, [each.value for each in said]))


def test_of_processes_that_race_one_wins_each_query(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    found = context.SimpleQueue()
    racing = [
        context.Process(target=_race, args=(tmp_path / "store", members, found))
        for members in (1, 2)
    ]
    for each in racing:
        each.start()
    said = dict(found.get() for _ in racing)
    for each in racing:
        each.join()
    for first, second in zip(said[1], said[2], strict=True):
        assert {first, second} == {"new", "another"}


def test_what_is_forgotten_is_refused_whatever_the_clock_says(tmp_path: Path) -> None:
    """A clock that is years ahead makes a helper refuse, not release twice."""
    with ReleaseStore(tmp_path / "store") as store:
        store.record([entry(1, 7, deadline=1000), entry(2, 7, deadline=5000)])
        assert store.forget(BrokerMillis(1000)) == 1
        assert store.forget(BrokerMillis(10)) == 0  # a clock that went back
        assert store.record([entry(1, 8, deadline=1000)]) == [Recorded.FORGOTTEN]
        assert store.record([entry(3, 8, deadline=999)]) == [Recorded.FORGOTTEN]
        assert store.record([entry(2, 8, deadline=5000)]) == [Recorded.ANOTHER]
        assert len(store) == 1


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("record"), st.integers(0, 5), st.integers(0, 2)),
            st.tuples(st.just("forget"), st.integers(0, 9), st.just(0)),
            st.tuples(st.just("again"), st.just(0), st.just(0)),
        ),
        max_size=30,
    )
)
def test_no_sequence_lets_two_sets_of_a_query_leave(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int]]
) -> None:
    file = tmp_path_factory.mktemp("store") / "store"
    left: dict[int, set[int]] = {}
    store = ReleaseStore(file)
    for what, number, members in steps:
        if what == "record":
            [found] = store.record([entry(number, members, deadline=number + 1)])
            if found.may_leave:
                left.setdefault(number, set()).add(members)
        elif what == "forget":
            store.forget(BrokerMillis(number))
        else:
            store.__exit__(None, None, None)
            store = ReleaseStore(file)
    store.__exit__(None, None, None)
    assert all(len(sets) == 1 for sets in left.values())


def test_the_file_is_the_owners_alone(tmp_path: Path) -> None:
    with ReleaseStore(tmp_path / "store") as store:
        store.record([entry(1, 7)])
        for each in tmp_path.iterdir():
            assert stat.S_IMODE(each.stat().st_mode) == 0o600


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("this is no database, and long enough to look at" * 100)
    other = sqlite3.connect(tmp_path / "other")
    other.execute("CREATE TABLE mine (one INTEGER)")
    other.commit()
    other.close()
    for name in ("text", "other", "no/such/folder"):
        with pytest.raises(ConfigError, match=name):
            ReleaseStore(tmp_path / name)


def test_a_store_that_cannot_be_written_says_so_and_records_nothing(tmp_path: Path) -> None:
    file = tmp_path / "store"
    with ReleaseStore(file) as store:
        store._connection.execute("PRAGMA query_only = ON")
        with pytest.raises(ConfigError, match="no sum is released"):
            store.record([entry(1, 7)])
        store._connection.execute("PRAGMA query_only = OFF")
        assert store.record([entry(1, 8)]) == [Recorded.NEW]


def test_names_and_digests_differ_with_anything_in_them() -> None:
    identities = [
        Identity("alice", b"q" * 16, b"d" * 32),
        Identity("alicf", b"q" * 16, b"d" * 32),
        Identity("alice", b"r" * 16, b"d" * 32),
        Identity("alice", b"q" * 16, b"e" * 32),
    ]
    assert len({each.name for each in identities}) == 4
    sets = [
        (("p1", b"1" * 16), ("p2", b"2" * 16)),
        (("p1", b"1" * 16),),
        (("p1", b"1" * 16), ("p3", b"2" * 16)),
        (("p1", b"1" * 16), ("p2", b"3" * 16)),
    ]
    assert len({set_digest(each) for each in sets}) == 4


def test_only_a_sorted_set_of_distinct_members_is_canonical() -> None:
    one, two = ("p1", b"1" * 16), ("p2", b"2" * 16)
    assert is_canonical((one, two))
    assert is_canonical(())
    assert not is_canonical((two, one))
    assert not is_canonical((one, one))
    assert not is_canonical((one, ("p1", b"2" * 16)))
