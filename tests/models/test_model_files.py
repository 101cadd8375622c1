from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from fi_stream.errors import ModelError
from fi_stream.events.tensors import Datatype
from fi_stream.federation.member import Gives
from fi_stream.federation.task import Task, TensorSpec
from fi_stream.models.batching import Predicted, predict_each
from fi_stream.models.loading import load
from fi_stream.models.port import Source
from fi_stream.models.probe import probe

if TYPE_CHECKING:
    from fi_stream.models.port import Model

WEIGHTS = np.arange(12, dtype=np.float32).reshape(4, 3)


def onnx_file(
    path: Path, shape: tuple[Any, ...] = ("rows", 4), name: str = "x", outputs: int = 1
) -> Path:
    """A linear model, [rows, 4] to logits [rows, 3]."""
    rows = shape[0]
    given = helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    names = [f"y{n}" for n in range(outputs)]
    made = [helper.make_tensor_value_info(y, TensorProto.FLOAT, (rows, 3)) for y in names]
    weights = helper.make_tensor("w", TensorProto.FLOAT, (4, 3), WEIGHTS.ravel())
    nodes = [helper.make_node("MatMul", [name, "w"], [y]) for y in names]
    graph = helper.make_graph(nodes, "linear", [given], made, [weights])
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=9), path)
    return path


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A linear torch model, exported for any number of rows."""
    path = tmp_path_factory.mktemp("exported") / "model.pt2"
    layer = torch.nn.Linear(4, 3, bias=False)
    layer.weight.data = torch.from_numpy(WEIGHTS.T.copy())
    rows = torch.export.Dim("rows")
    program = torch.export.export(layer, (torch.zeros(2, 4),), dynamic_shapes=({0: rows},))
    torch.export.save(program, path)
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def check_linear(model: Model, task: Task) -> None:
    probe(model, task, Gives.LOGITS)
    x = np.random.default_rng(3).normal(size=(6, 4)).astype(np.float32)
    assert model.predict({"x": x}) == pytest.approx(x @ WEIGHTS, abs=1e-5)
    one, two = predict_each(model, [{"x": x[:2]}, {"x": x[2:]}], 3, Gives.LOGITS)
    assert isinstance(one, Predicted)
    assert isinstance(two, Predicted)
    assert (len(one.probabilities), len(two.probabilities)) == (2, 4)


def test_an_onnx_model_answers_any_number_of_rows(tmp_path: Path, task: Task) -> None:
    path = onnx_file(tmp_path / "model.onnx")
    model = load(Source(onnx=Path("model.onnx")), task, tmp_path, 2)
    check_linear(model, task)
    assert model.version == digest(path)[:12]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "pixels"}, ("['pixels']", "['x']")),
        ({"shape": (1, 4)}, ("first axis", "dynamic")),
        ({"shape": ("rows", "a", "b")}, ("['a', 'b']", "[4]")),
        ({"outputs": 2}, ("y0", "y1", "probabilities")),
    ],
)
def test_an_onnx_model_that_does_not_fit_the_task_is_told(
    tmp_path: Path, task: Task, changes: dict[str, Any], words: tuple[str, ...]
) -> None:
    path = onnx_file(tmp_path / "model.onnx", **changes)
    with pytest.raises(ModelError) as caught:
        load(Source(onnx=path), task, tmp_path, 1)
    for word in (str(path), *words):
        assert word in str(caught.value)


def test_an_onnx_model_of_another_datatype_is_told(tmp_path: Path, task: Task) -> None:
    path = onnx_file(tmp_path / "model.onnx")
    spec = TensorSpec(name="x", datatype=Datatype.FP64, shape=(4,))
    other = task.model_copy(update={"inputs": (spec,)})
    with pytest.raises(ModelError, match=r"tensor\(float\).*FP64"):
        load(Source(onnx=path), other, tmp_path, 1)


def test_text_reaches_an_onnx_model_as_it_was_sent(tmp_path: Path) -> None:
    given = helper.make_tensor_value_info("x", TensorProto.STRING, ("rows", 1))
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, ("rows", 2))
    encode = helper.make_node(
        "LabelEncoder",
        ["x"],
        ["n"],
        domain="ai.onnx.ml",
        keys_strings=["gr\u00fcn"],
        values_floats=[1.0],
        default_float=0.0,
    )
    half = helper.make_tensor("half", TensorProto.FLOAT, (1, 2), [0.0, 1.0])
    nodes = [encode, helper.make_node("MatMul", ["n", "half"], ["y"])]
    graph = helper.make_graph(nodes, "text", [given], [made], [half])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    path = tmp_path / "text.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    spec = TensorSpec(name="x", datatype=Datatype.BYTES, shape=(1,))
    task = Task(kind="multiclass", classes=("other", "green"), inputs=(spec,))
    model = load(Source(onnx=path), task, tmp_path, 1)
    probe(model, task, Gives.LOGITS)
    rows = np.array([["gr\u00fcn".encode()], [b"red"]], dtype=object)
    assert model.predict({"x": rows}).tolist() == [[0.0, 1.0], [0.0, 0.0]]


@pytest.mark.parametrize("content", [b"", b"not a model"])
def test_a_broken_onnx_file_is_told(tmp_path: Path, task: Task, content: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.onnx cannot be loaded"):
        load(Source(onnx=Path("model.onnx")), task, tmp_path, 1)


def test_a_model_file_that_is_missing_is_told(tmp_path: Path, task: Task) -> None:
    for source in (Source(onnx=Path("no.file")), Source(exported=Path("no.file"))):
        with pytest.raises(ModelError, match=r"no\.file cannot be read"):
            load(source, task, tmp_path, 1)


def test_an_exported_model_with_its_hash_answers_any_number_of_rows(
    archive: Path, task: Task
) -> None:
    source = Source(exported=archive, sha256=digest(archive))
    model = load(source, task, archive.parent, 1)
    check_linear(model, task)
    assert model.version == digest(archive)[:12]


def test_an_exported_model_may_be_told_its_device(archive: Path, task: Task) -> None:
    source = Source(exported=archive, sha256=digest(archive), device="cpu")
    check_linear(load(source, task, archive.parent, 1), task)


def test_a_changed_archive_is_not_loaded_and_both_hashes_are_told(
    archive: Path, task: Task, tmp_path: Path
) -> None:
    changed = tmp_path / "model.pt2"
    changed.write_bytes(archive.read_bytes() + b"\0")
    with pytest.raises(ModelError) as caught:
        load(Source(exported=changed, sha256=digest(archive)), task, tmp_path, 1)
    assert digest(archive) in str(caught.value)
    assert digest(changed) in str(caught.value)


def test_the_hash_is_checked_before_a_byte_is_unpickled(tmp_path: Path, task: Task) -> None:
    (tmp_path / "evil.pt2").write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    with pytest.raises(ModelError, match="was not loaded"):
        load(Source(exported=Path("evil.pt2"), sha256="0" * 64), task, tmp_path, 1)
    assert not (tmp_path / "ran").exists()


def test_an_archive_without_a_pin_is_not_loaded(archive: Path, task: Task) -> None:
    with pytest.raises(ModelError, match="no sha256"):
        load(Source(exported=archive), task, archive.parent, 1)


def test_a_pinned_file_that_is_no_archive_is_told(tmp_path: Path, task: Task) -> None:
    path = tmp_path / "model.pt2"
    path.write_bytes(b"my own, and broken")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load(Source(exported=path, sha256=digest(path)), task, tmp_path, 1)


@pytest.mark.parametrize(
    ("module", "field", "advice"),
    [("torch", "exported", "fi-stream[torch]"), ("onnxruntime", "onnx", "fi-stream[onnx]")],
)
def test_a_missing_library_says_what_to_install(
    tmp_path: Path, module: str, field: str, advice: str
) -> None:
    path = tmp_path / "model"
    path.write_bytes(b"model")
    script = f"""
import sys
sys.modules[{module!r}] = None
from pathlib import Path
from fi_stream.errors import ModelError
from fi_stream.events.tensors import Datatype
from fi_stream.federation.task import Task, TensorSpec
from fi_stream.models.loading import load
from fi_stream.models.port import Source
spec = TensorSpec(name="x", datatype=Datatype.FP32, shape=(4,))
task = Task(kind="multiclass", classes=("a", "b"), inputs=(spec,))
source = Source({field}=Path({str(path)!r}), sha256={digest(path)!r})
try:
    load(source, task, Path(), 1)
except ModelError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=60
    )
    assert advice in done.stdout
