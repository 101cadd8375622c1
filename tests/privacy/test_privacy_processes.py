"""Noise and reserved budget belong to one process: each script forks and reports as JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from fi_stream.privacy.pool import Pool

if TYPE_CHECKING:
    from pathlib import Path


def run(script: str, *arguments: object) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return json.loads(done.stdout)


FORKED_NOISE = """
import json, os, sys
import numpy as np
from fi_stream.privacy.mechanisms import DiscreteGaussian, RandomisedResponse

label = RandomisedResponse(1000, 0.1)
scores = DiscreteGaussian(1.0, 1e-6)
row = np.full((64, 1000), 1 / 1000)
label.release(row[:1]), scores.release(np.full((1, 16), 1 / 16))  # both pools hold noise now

def draw():
    noised = label.release(row), scores.release(np.full((4, 16), 1 / 16))
    return [released.values.tolist() for released in noised]

def child():
    out, into = os.pipe()
    if os.fork() == 0:
        os.write(into, json.dumps(draw()).encode())
        os._exit(0)
    os.close(into)
    with os.fdopen(out) as report:
        drawn = json.loads(report.read())
    os.wait()
    return drawn

print(json.dumps([child(), child(), draw()]))
"""


def test_noise_drawn_before_a_fork_is_not_used_by_two_processes() -> None:
    labels, scores = zip(*run(FORKED_NOISE), strict=True)
    for drawn in (labels, scores):
        assert len({json.dumps(values) for values in drawn}) == 3
    # Not even a part of the pool is shared.
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (np.array(labels[one]) == np.array(labels[other])).mean() < 0.2
        assert (np.array(scores[one]) == np.array(scores[other])).mean() < 0.2


CRASH_LOOP = """
import json, os, sys
from pathlib import Path
from fi_stream.privacy.accountant import Charge, Unit
from fi_stream.privacy.budget import Budget, Spent

path, restarts = Path(sys.argv[1]), int(sys.argv[2])
one = Charge(Unit.NANO_EPSILON, 10)
limit, block = one.times(10_000), one.times(256)
for _ in range(restarts):
    if os.fork() == 0:
        budget = Budget(path, limit, block)
        os._exit(0 if isinstance(budget.spend("alice", one), Spent) else 1)
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
account = Budget(path, limit, block).accounts()["alice"]
print(json.dumps([account.at_least.amount, account.at_most.amount]))
"""


def test_fifty_crashes_after_one_answer_each_count_fifty_answers(tmp_path: Path) -> None:
    at_least, at_most = run(CRASH_LOOP, tmp_path / "ledger", 50)
    assert (at_least, at_most) == (0, 500)


KILLED = """
import json, os, random, signal, sys, time
from pathlib import Path
from fi_stream.privacy.accountant import Charge, Unit
from fi_stream.privacy.budget import Budget

path, rounds, replicas = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
one = Charge(Unit.NANO_EPSILON, 10)
limit, block = one.times(10**9), one.times(64)
answered = 0
for _ in range(rounds):
    readers, children = [], []
    for _ in range(replicas):
        out, into = os.pipe()
        child = os.fork()
        if child == 0:
            budget = Budget(path, limit, block)
            while True:
                budget.spend("alice", one)
                os.write(into, b".")  # the answer leaves
        os.close(into)
        readers.append(out)
        children.append(child)
    firsts = sum(len(os.read(out, 1)) for out in readers)
    time.sleep(random.uniform(0, 0.01))
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    answered += firsts
    for out in readers:
        with os.fdopen(out, "rb") as rest:
            answered += len(rest.read())
account = Budget(path, limit, block).accounts()["alice"]
print(json.dumps([account.at_least.amount, answered * 10, account.at_most.amount]))
"""


def test_killed_replicas_never_under_count_and_burn_less_than_a_block_each(tmp_path: Path) -> None:
    rounds, replicas = 8, 2
    at_least, answered, at_most = run(KILLED, tmp_path / "ledger", rounds, replicas)
    assert at_least <= answered <= at_most
    # Beside the block, one answer each may be charged and not yet sent.
    assert at_most - answered <= rounds * replicas * (64 + 1) * 10


SHARED = """
import json, os, sys
from pathlib import Path
from fi_stream.privacy.accountant import Charge, Unit
from fi_stream.privacy.budget import Budget, Spent

path = Path(sys.argv[1])
one = Charge(Unit.NANO_EPSILON, 7)
limit, block = one.times(1_000), one.times(64)
before = Budget(path, limit, block)
before.spend("alice", one)
before.spend("alice", one)
before.spend("alice", one)  # holds a reserve that its children must not use or give back
readers = []
for _ in range(3):
    out, into = os.pipe()
    if os.fork() == 0:
        before.close()
        answered = 0
        with Budget(path, limit, block) as budget:
            while isinstance(budget.spend("alice", one), Spent):
                answered += 1
        os.write(into, str(answered).encode())
        os._exit(0)
    os.close(into)
    readers.append(out)
for _ in range(3):
    os.wait()
answered = 3 + sum(int(os.read(out, 20)) for out in readers)
while isinstance(before.spend("alice", one), Spent):
    answered += 1
before.close()
account = before.accounts()["alice"]
print(json.dumps([account.at_least.amount, account.at_most.amount, answered * 7]))
"""


def test_replicas_and_forks_share_one_limit_exactly(tmp_path: Path) -> None:
    at_least, at_most, answered = run(SHARED, tmp_path / "ledger")
    assert at_least == at_most == answered == 7 * 1_000


FORKED_WHILE_WRITING = """
import json, os, sys, threading, time
from pathlib import Path
from fi_stream.privacy.accountant import Charge, Unit
from fi_stream.privacy.budget import Budget, Spent

path = Path(sys.argv[1])
one = Charge(Unit.NANO_EPSILON, 7)
budget = Budget(path, one.times(100_000), one)  # writes for each answer
answered, done = 0, threading.Event()

def answer():
    global answered
    while not done.is_set():
        answered += isinstance(budget.spend("alice", one), Spent)
        time.sleep(0.02)  # SQLite's lock is not fair: leave it to the child now and then

writer = threading.Thread(target=answer, daemon=True)
writer.start()
children = 20
for _ in range(children):
    child = os.fork()
    if child == 0:
        ok = isinstance(budget.spend("alice", one), Spent)
        budget.close()
        os._exit(0 if ok else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
done.set()
writer.join()
budget.close()
account = Budget(path, one.times(100_000), one).accounts()["alice"]
print(json.dumps([account.at_least.amount, account.at_most.amount, (answered + children) * 7]))
"""


def test_a_fork_in_the_middle_of_a_charge_loses_none(tmp_path: Path) -> None:
    at_least, at_most, answered = run(FORKED_WHILE_WRITING, tmp_path / "ledger")
    assert at_least == at_most == answered


def test_noise_is_given_out_once() -> None:
    drawn = iter(range(10**6))
    pool = Pool(lambda count: np.array([next(drawn) for _ in range(count)]), block=8)
    taken = [n for size in (1, 7, 0, 20, 3, 8) for n in pool.take(size).tolist()]
    assert taken == list(range(39))


UNTOUCHED = """
import json, sys
import fi_stream.privacy.accountant, fi_stream.privacy.budget, fi_stream.privacy.compatibility
import fi_stream.privacy.guarantee, fi_stream.privacy.building
from fi_stream.federation.member import Mechanism, PrivacySection
from fi_stream.federation.policy import Form
none = PrivacySection(mechanism=Mechanism.NONE)
fi_stream.privacy.building.build(none, Form.LABEL, 10)
print(json.dumps([name for name in sys.modules if name.partition(".")[0] == "opendp"]))
"""


def test_opendp_is_imported_only_when_noise_is_wanted() -> None:
    assert run(UNTOUCHED) == []


def test_a_missing_opendp_says_what_to_install() -> None:
    script = """
import json, sys
sys.modules["opendp"] = None
from fi_stream.errors import ConfigError
from fi_stream.privacy.mechanisms import RandomisedResponse
try:
    RandomisedResponse(10, 1.0)
except ConfigError as error:
    print(json.dumps(str(error)))
"""
    assert "pip install fi-stream[privacy]" in run(script)
