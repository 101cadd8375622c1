"""The exceptions, one tree; an expected refusal is a value (`events.refusals`), not one of these.

FiStreamError
├── ConfigError            a file, key or option is wrong: says which, and the fix
├── ModelError             the model cannot be loaded, or does not fit the task
├── TopicError             topics are missing, or do not fit each other or the catalogue
├── BrokerError            the broker could not be reached in time          (retriable)
│   ├── SendUnknown        no acknowledgement came: it may have arrived     (retriable)
│   └── SendRefused        the broker does not take these events
├── SealingError           a key or grant of our own cannot be used
├── QueryError             a client's query is wrong and was not sent
├── NoResult               no result came by the deadline                   (retriable)
├── NotFinished            asked to stop, and the grace time was too short
└── ClaimRefuted           an audit found that answers give more away than is claimed
"""

from __future__ import annotations

from typing import ClassVar


class FiStreamError(Exception):
    """Base of all that fi_stream raises on purpose."""

    retriable: ClassVar[bool] = False
    exit_code: ClassVar[int] = 1


class ConfigError(FiStreamError):
    """A configuration file, key or option is wrong."""

    exit_code = 3


class ModelError(FiStreamError):
    """A model cannot be loaded, or its answers do not fit the task."""

    exit_code = 4


class TopicError(FiStreamError):
    """Topics are missing, or do not fit each other or the catalogue."""

    exit_code = 5


class BrokerError(FiStreamError):
    """The broker could not be reached in the stated time."""

    retriable = True
    exit_code = 6


class SendUnknown(BrokerError):
    """No acknowledgement came in time: the events may or may not have arrived."""


class SendRefused(BrokerError):
    """The broker does not take these events, now or later; nothing of them arrived."""

    retriable = False


class SealingError(FiStreamError):
    """A key or grant of our own cannot be used."""

    exit_code = 7


class QueryError(FiStreamError):
    """A query does not fit the task or the policy, and was not sent."""

    exit_code = 8


class NoResult(FiStreamError):
    """No result came by the deadline; the outcome is unknown to this client."""

    retriable = True
    exit_code = 9


class NotFinished(FiStreamError):
    """A process was asked to stop, and what was in hand took longer than the grace time."""

    exit_code = 10


class ClaimRefuted(FiStreamError):
    """An audit found that a participant's answers give more away than it claims."""

    exit_code = 11
