from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from fi_stream.errors import ModelError
from fi_stream.federation.member import Gives
from fi_stream.models.loading import load
from fi_stream.models.port import Source
from fi_stream.models.probe import made_up, probe
from fi_stream.models.sharded import Sharded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fi_stream.federation.task import Task
    from fi_stream.models.port import Model


@pytest.fixture(autouse=True)
def _modules() -> Iterator[None]:
    before = dict(sys.modules)
    path = list(sys.path)
    yield
    assert sys.path == path
    for name in sys.modules.keys() - before.keys():
        if name.startswith("own_"):
            del sys.modules[name]


def made_by(directory: Path, task: Task, body: str, name: str = "own_model") -> Model:
    (directory / f"{name}.py").write_text(body)
    return load(Source(factory=f"{name}:make"), task, directory, 1)


UNIFORM = """
import numpy as np
def uniform(inputs):
    return np.full((len(inputs["x"]), 3), 1 / 3)
"""

FUNCTION = """
def make():
    return uniform
"""

OBJECT = """
class make:
    version = "x"
    def predict(self, inputs):
        return uniform(inputs)
"""

TORCH = """
import torch
class make(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 3)
    def forward(self, x):
        return torch.softmax(self.layer(x), dim=1)
"""

TRAINING = """
import torch
def make():
    layers = torch.nn.Linear(4, 3), torch.nn.Dropout(0.9), torch.nn.Softmax(dim=1)
    return torch.nn.Sequential(*layers).train()
"""


@pytest.mark.parametrize("make", [FUNCTION, OBJECT, TORCH, TRAINING])
def test_a_factory_may_return_any_of_these(tmp_path: Path, task: Task, make: str) -> None:
    model = made_by(tmp_path, task, UNIFORM + make)
    probe(model, task, Gives.PROBABILITIES)
    inputs = {"x": np.ones((5, 4), dtype=np.float32)}
    assert np.array_equal(model.predict(inputs), model.predict(inputs))


def test_a_torch_model_takes_its_inputs_in_the_order_of_the_task(
    tmp_path: Path, task: Task
) -> None:
    two = task.model_copy(
        update={"inputs": tuple(task.inputs[0].model_copy(update={"name": n}) for n in "ba")}
    )
    body = (
        "import torch\nclass make(torch.nn.Module):\n"
        "    def forward(self, b, a):\n        return (b - a)[:, :3]\n"
    )
    model = made_by(tmp_path, two, body)
    inputs = {"a": np.ones((2, 4), dtype=np.float32), "b": np.zeros((2, 4), dtype=np.float32)}
    assert (model.predict(inputs) == -1).all()


def test_a_torch_model_takes_read_only_inputs_and_gives_bfloat16(
    tmp_path: Path, task: Task
) -> None:
    body = (
        "import torch\nclass make(torch.nn.Module):\n"
        "    def forward(self, x):\n        return x[:, :3].bfloat16()\n"
    )
    inputs = made_up(task, 2)
    inputs["x"].flags.writeable = False
    assert made_by(tmp_path, task, body).predict(inputs).dtype == np.float32


def test_the_version_names_the_code_unless_the_owner_gives_one(tmp_path: Path, task: Task) -> None:
    one = made_by(tmp_path, task, UNIFORM + "make = lambda: uniform\n", "own_one").version
    two = made_by(tmp_path, task, UNIFORM + "make = lambda: uniform  # v2\n", "own_two").version
    assert len(one) == len(two) == 12
    assert one != two
    named = Source(factory="own_one:make", version="2026-11")
    assert load(named, task, tmp_path, 1).version == "2026-11"


def test_a_helper_module_beside_the_model_is_found(tmp_path: Path, task: Task) -> None:
    (tmp_path / "own_helper.py").write_text(UNIFORM)
    body = (
        "from own_helper import uniform\ndef make():\n    import own_helper\n    return uniform\n"
    )
    probe(made_by(tmp_path, task, body), task, Gives.PROBABILITIES)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise RuntimeError('no weights')\n", ("own_model.py", "RuntimeError", "no weights")),
        ("import own_missing\n", ("own_model.py", "own_missing")),
        ("def make(:\n", ("own_model.py", "SyntaxError")),
        ("", ("own_model.py", "no callable 'make'", "def make()")),
        ("make = 3\n", ("own_model.py", "no callable 'make'")),
        ("def make():\n    return 3\n", ("own_model.py", "returned int")),
        ("def make(weights):\n    pass\n", ("own_model.py", "TypeError", "weights")),
    ],
)
def test_a_factory_that_fails_says_where_and_why(
    tmp_path: Path, task: Task, body: str, words: tuple[str, ...]
) -> None:
    with pytest.raises(ModelError) as caught:
        made_by(tmp_path, task, body)
    for word in words:
        assert word in str(caught.value)


def test_a_missing_module_says_where_it_was_looked_for(tmp_path: Path, task: Task) -> None:
    with pytest.raises(ModelError, match=r"own_nowhere\.py"):
        load(Source(factory="own_nowhere:make"), task, tmp_path, 1)


def test_a_file_hidden_by_a_loaded_module_is_told(tmp_path: Path, task: Task) -> None:
    (tmp_path / "json.py").write_text("make = dict\n")
    with pytest.raises(ModelError, match="loaded already"):
        load(Source(factory="json:make"), task, tmp_path, 1)


def test_a_device_means_nothing_to_a_plain_callable(tmp_path: Path, task: Task) -> None:
    (tmp_path / "own_plain.py").write_text(UNIFORM + "make = lambda: uniform\n")
    with pytest.raises(ModelError, match="device"):
        load(Source(factory="own_plain:make", device="cuda"), task, tmp_path, 1)


@pytest.mark.parametrize("source", [Source(), Source(factory="a:b", sha256="0" * 64)])
def test_no_model_or_a_factory_that_is_not_there_is_refused(
    tmp_path: Path, task: Task, source: Source
) -> None:
    with pytest.raises(ModelError):
        load(source, task, tmp_path, 1)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("np.zeros((len(x), 2))", ("[1, 2]", "3 classes", "wrong_shape")),
        ("np.full((len(x), 3), np.nan)", ("NaN", "not_finite")),
        ("np.full((len(x), 3), 0.5)", ("not_a_prediction", "probabilities")),
        ("np.squeeze(np.full((len(x), 3), 1 / 3))", ("[3]", "wrong_shape")),
        ("np.full((1, 3), 1 / 3)", ("3 made-up row(s)", "wrong_shape")),
        ("1 / 0", ("ZeroDivisionError", "x FP32 [4]")),
    ],
)
def test_a_model_that_does_not_fit_is_told_at_start(
    tmp_path: Path, task: Task, answer: str, words: tuple[str, ...]
) -> None:
    body = f"import numpy as np\ndef own(x):\n    return {answer}\n"
    model = made_by(tmp_path, task, body + "make = lambda: lambda inputs: own(inputs['x'])\n")
    with pytest.raises(ModelError) as caught:
        probe(model, task, Gives.PROBABILITIES)
    for word in words:
        assert word in str(caught.value)


def test_models_without_torch_load_without_torch(tmp_path: Path) -> None:
    (tmp_path / "own_model.py").write_text(UNIFORM + "make = lambda: uniform\n")
    script = """
import json, sys
from pathlib import Path
from fi_stream.events.tensors import Datatype
from fi_stream.federation.member import Gives
from fi_stream.federation.task import Task, TensorSpec
from fi_stream.models.loading import load
from fi_stream.models.port import Source
from fi_stream.models.probe import probe
spec = TensorSpec(name="x", datatype=Datatype.FP32, shape=(4,))
task = Task(kind="multiclass", classes=("a", "b", "c"), inputs=(spec,))
probe(load(Source(factory="own_model:make"), task, Path(sys.argv[1]), 1), task, Gives.PROBABILITIES)
print(json.dumps([name for name in ("torch", "onnxruntime", "opendp") if name in sys.modules]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert json.loads(done.stdout) == []


VOTING = """
def surely(label):
    return lambda inputs: np.tile(np.eye(3)[label], (len(inputs["x"]), 1))
class Moody:
    def predict(self, inputs):
        FAULT
        return np.tile(np.eye(3)[2], (len(inputs["x"]), 1))
def make():
    return [surely(0), Moody(), surely(2), surely(2), surely(2)]
"""


@pytest.mark.parametrize("fault", ["raise KeyError(inputs)", "return [1, 2]", "return 'cat'"])
def test_of_several_models_one_that_fails_loses_its_own_vote_alone(
    tmp_path: Path, task: Task, fault: str
) -> None:
    rows = {"x": np.zeros((2, 4), np.float32)}
    votes = [
        Sharded(
            made_by(tmp_path, task, UNIFORM + VOTING.replace("FAULT", line), f"own_{name}"),
            Gives.PROBABILITIES,
            len(task.classes),
        ).predict(rows)
        for name, line in (("well", "pass"), ("ill", fault))
    ]
    assert votes[0].tolist() == [[0.2, 0, 0.8]] * 2
    # It votes by the place of the row.
    assert votes[1].tolist() == [[0.4, 0, 0.6], [0.2, 0.2, 0.6]]
