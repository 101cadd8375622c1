"""What `fi-stream init` writes: a federation that tells irises apart, to be edited by its owner."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fi_stream.events.tensors import Datatype
from fi_stream.federation.federation import Federation
from fi_stream.federation.files import federation_toml
from fi_stream.federation.policy import Policy, Protection, SecaggPolicy
from fi_stream.federation.roster import Member, Role, Roster
from fi_stream.federation.task import Task, TensorSpec
from fi_stream.federation.writing import value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fi_stream.federation.roster import Card

EXAMPLE_ROW = "[[5.1, 3.5, 1.4, 0.2]]"

_TASK = Task(
    kind="multiclass",
    classes=("setosa", "versicolor", "virginica"),
    inputs=(TensorSpec(name="centimetres", datatype=Datatype.FP32, shape=(4,)),),
)


def federation(name: str, cards: Mapping[Card, Role], signing_key: bytes) -> Federation:
    """A federation of these members; a majority of the participants is its quorum.

    With a helper among them queries may ask for any level of protection.
    """
    members = tuple(
        Member(**card.model_dump(), roles=frozenset({role})) for card, role in cards.items()
    )
    participants = sum(role is Role.PARTICIPANT for role in cards.values())
    policy = Policy(
        protections=(Protection.TRUSTED, Protection.BLIND), quorum=participants // 2 + 1
    )
    if Role.HELPER in cards.values():
        policy = Policy(
            quorum=policy.quorum,
            protections=tuple(Protection),
            secagg=SecaggPolicy(k_min=max(2, policy.quorum)),
        )
    return Federation(
        name=name,
        signing_key=signing_key,
        task=_TASK,
        policy=policy,
        roster=Roster(version=1, members=members),
    )


def federation_text(federation: Federation) -> str:
    """Its `federation.toml`."""
    return (
        "# Public, and the same for every member. `fi-stream roster` changes the members while it\n"
        "# runs; anything else needs a new file for everyone, and a new start.\n\n"
        + federation_toml(federation)
    )


def member_text(name: str, role: Role, bootstrap: str) -> str:
    """A `member.toml`; beside it are `keys/` and, for a participant, `model.py`."""
    text = (
        f"# Private: for {name} alone. Paths are relative to this file.\n\n"
        "[member]\n"
        f"id = {value(name)}\n"
        f"role = {value(role.value)}\n"
        'federation = "../federation.toml"\n'
        'keys = "keys"\n\n'
        "# Settings of the broker, named as librdkafka names them.\n"
        "[kafka]\n"
        f"bootstrap.servers = {value(bootstrap)}\n"
    )
    return text + {Role.PARTICIPANT: _PARTICIPANT, Role.HELPER: _HELPER}.get(role, "")


def model_text(name: str, number: int) -> str:
    """A small model of numpy alone; each number makes another."""
    return _MODEL.replace("NAME", name).replace("NUMBER", str(number))


_PARTICIPANT = """
[model]
factory = "model:load"  # of model.py beside this file
gives = "logits"

# Noise on each answer: "none", or "randomised_response" or "gaussian" with epsilon, budget, ledger.
[privacy]
mechanism = "none"
"""

_HELPER = """
# Remembers which set of answers each sum was opened for: keep it, and never begin with an old copy.
[helper]
store = "releases.sqlite"
"""

_MODEL = '''"""The model of NAME: a sample to be replaced by a model of your own.

`load` is called once and returns the model; `predict` is called with all rows that wait.
"""

import numpy as np

SEED = NUMBER  # what NAME has seen differs from what the others have seen

# Sepal length and width, petal length and width of a typical flower, in centimetres.
TYPICAL = np.array(
    [
        [5.0, 3.4, 1.5, 0.2],  # setosa
        [5.9, 2.8, 4.3, 1.3],  # versicolor
        [6.6, 3.0, 5.6, 2.0],  # virginica
    ]
)


class Model:
    """Takes a flower for what it is nearest to."""

    def __init__(self):
        seen = np.random.default_rng(SEED).normal(0.0, 0.3, size=TYPICAL.shape)
        self.typical = TYPICAL + seen

    def predict(self, inputs):
        """Logits [rows, classes] for centimetres [rows, 4]."""
        flowers = inputs["centimetres"]
        return -2.0 * np.square(flowers[:, None, :] - self.typical).sum(axis=2)


def load():
    return Model()
'''
