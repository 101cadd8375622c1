"""Files of recorded traffic: written as queries settle, read whole; traces load the same way."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from fi_stream.aggregation.caps import capped_sizes
from fi_stream.aggregation.competence import density_weights
from fi_stream.aggregation.evaluate import Gathered, evaluate
from fi_stream.aggregation.results import outputs_of
from fi_stream.aggregation.whatif import numbers
from fi_stream.errors import ConfigError
from fi_stream.events.header import Ask
from fi_stream.events.payloads import Contributor, Outcome, ResultPayload
from fi_stream.events.recording import (
    Head,
    Recorded,
    RecordedAnswer,
    framed,
    read_head,
    read_queries,
)
from fi_stream.events.refusals import Refusal
from fi_stream.events.tensors import Datatype, Tensor, to_array
from fi_stream.models.prediction import softmax
from fi_stream.roles.traces import read as read_trace
from fi_stream.roles.traces import shuffled

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray

_TRACE_RULE = "soft"


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """What was recorded: the task's classes, and queries in the order in which they settled."""

    classes: tuple[str, ...]
    queries: tuple[Recorded, ...]


class Writer:
    """Writes a recording; whatever is cut off at the end by a crash is lost, and no more."""

    def __init__(self, file: Path, classes: Sequence[str]) -> None:
        try:
            self._file = file.open("xb")
        except FileExistsError as error:
            raise ConfigError(f"{file} exists already. Name another file to record to.") from error
        except OSError as error:
            raise ConfigError(f"{file} cannot be written: {error.strerror}.") from error
        file.chmod(0o600)  # it holds predictions in the clear
        self._file.write(framed(Head(classes=tuple(classes))))

    def write(self, query: Recorded) -> None:
        """Append one query."""
        self._file.write(framed(query))

    def flush(self) -> None:
        """Hand what was written to the machine: a process that ends now loses nothing of it."""
        self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()


def read_recording(file: Path) -> Recording:
    """Read a recording, or a trace (`*.npz`) as one.

    Raises:
        ConfigError: it is neither, or a query in it contradicts itself; says which.
    """
    if file.suffix == ".npz":
        return _of_trace(file)
    try:
        with file.open("rb") as stream:
            head = read_head(stream)
            found = [] if isinstance(head, Refusal) else list(read_queries(stream))
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}.") from error
    if isinstance(head, Refusal):
        raise ConfigError(f"{file} is no recording: {head.detail}.")
    for number, one in enumerate(found, 1):
        wrong = one.detail if isinstance(one, Refusal) else _wrong(one, len(head.classes))
        if wrong is not None:
            raise ConfigError(f"{file}, query {number}: {wrong}.")
    return Recording(head.classes, tuple(one for one in found if isinstance(one, Recorded)))


def _wrong(one: Recorded, classes: int) -> str | None:
    """Why a query cannot be decided again; None when it can."""
    rows = one.ask.rows
    for answer in one.answers:
        if not _holds(answer.prediction, Datatype.FP64, (rows, classes)):
            return f"the prediction of {answer.member} is not FP64 [{rows}, {classes}], finite"
        if answer.own is not None and not _weighs(answer.own, rows):
            return f"the weight of {answer.member} is not FP64 [{rows}], finite, at least 0"
    if one.truth is not None and not _holds(one.truth, Datatype.INT64, (rows,)):
        return f"the right labels are not INT64 [{rows}]"
    for output in one.result.outputs:
        wanted = (Datatype.INT64, (rows,)) if output.name == "label" else None
        if wanted is not None and not _holds(output, *wanted):
            return f"the labels of the result are not INT64 [{rows}]"
    members = [answer.member for answer in one.answers]
    if len(set(members)) != len(members):
        return "a participant has two answers"
    decided = one.result.outcome in (Outcome.COMPLETE, Outcome.DECIDED, Outcome.PARTIAL)
    if decided and not one.result.contributors:
        return f"{one.result.outcome.value}, but nobody contributed"
    lost = {who.member for who in one.result.contributors} - set(members)
    if lost:
        return f"contributors without an answer: {', '.join(sorted(lost))}"
    return None


def _weighs(tensor: Tensor, rows: int) -> bool:
    if not _holds(tensor, Datatype.FP64, (rows,)):
        return False
    return bool((np.asarray(numbers(tensor), dtype=np.float64) >= 0).all())


def _holds(tensor: Tensor, datatype: Datatype, shape: tuple[int, ...]) -> bool:
    return (
        tensor.datatype is datatype
        and tensor.shape == shape
        and not isinstance(to_array(tensor), Refusal)
    )


def _of_trace(file: Path) -> Recording:
    """A trace, shuffled, as queries of one row each, all answered at once, decided by `soft`.

    Answers carry the weight of `competence_density`, so that a replay can decide by that.
    """
    trace = shuffled(read_trace(file))
    participants, rows, classes = trace.logits.shape
    flat = softmax(trace.logits.reshape(-1, classes)).astype(np.float64)
    said = flat.reshape(participants, rows, classes)
    sizes = capped_sizes(trace.sizes)
    ratios = density_weights(trace.log_density_ratio)
    width = len(str(participants - 1))
    members = tuple(f"p{number:0{width}}" for number in range(participants))
    digests = [hashlib.sha256(f"{trace.name}/{row}".encode()).digest() for row in range(rows)]
    decisions = evaluate(
        [
            Gathered(
                digests[row],
                _TRACE_RULE,
                {m: said[at, row : row + 1] for at, m in enumerate(members)},
            )
            for row in range(rows)
        ]
    )
    queries = []
    for row, (digest, decision) in enumerate(zip(digests, decisions, strict=True)):
        ask = Ask(
            query=digest[:16],
            partition=0,
            rule=_TRACE_RULE,
            rows=1,
            protection="trusted",
            created=0,
            deadline=1,
        )
        answers = tuple(
            RecordedAnswer(
                member=member,
                model=trace.name[:128],
                at=0,
                prediction=_tensor("prediction", said[at, row : row + 1], Datatype.FP64),
                size=float(sizes[at]),
                own=_tensor("weight", ratios[at, row : row + 1], Datatype.FP64),
            )
            for at, member in enumerate(members)
        )
        result = ResultPayload(
            outcome=Outcome.COMPLETE,
            outputs=outputs_of(decision),
            contributors=tuple(
                Contributor(member=member, model=trace.name[:128]) for member in members
            ),
        )
        truth = _tensor("truth", trace.labels[row : row + 1], Datatype.INT64)
        queries.append(
            Recorded(
                client="trace",
                ask=ask,
                digest=digest,
                participants=members,
                quorum=1,
                answers=answers,
                result=result,
                truth=truth,
            )
        )
    return Recording(tuple(str(label) for label in range(classes)), tuple(queries))


def _tensor(name: str, values: NDArray[np.generic], datatype: Datatype) -> Tensor:
    data = values.astype(datatype.numpy).tobytes()
    return Tensor(name=name, datatype=datatype, shape=values.shape, data=data)
