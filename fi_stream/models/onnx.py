"""An ONNX model through onnxruntime; its inputs and output are checked against the task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fi_stream.errors import ModelError
from fi_stream.events.tensors import Datatype
from fi_stream.models import files
from fi_stream.models.extras import extra

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from fi_stream.federation.task import Task
    from fi_stream.models.port import Inputs, Source

_TYPES = {
    Datatype.BOOL: "tensor(bool)",
    Datatype.UINT8: "tensor(uint8)",
    Datatype.UINT16: "tensor(uint16)",
    Datatype.UINT32: "tensor(uint32)",
    Datatype.UINT64: "tensor(uint64)",
    Datatype.INT8: "tensor(int8)",
    Datatype.INT16: "tensor(int16)",
    Datatype.INT32: "tensor(int32)",
    Datatype.INT64: "tensor(int64)",
    Datatype.FP16: "tensor(float16)",
    Datatype.FP32: "tensor(float)",
    Datatype.FP64: "tensor(double)",
    Datatype.BYTES: "tensor(string)",
}
_ERRORS_ONLY = 3


class OnnxModel:
    """One onnxruntime session.

    Args:
        session: takes the task's inputs by name.
        output: the name of the output that holds the prediction.
        version: of the model.
    """

    def __init__(self, session: Any, output: str, version: str) -> None:
        self.version = version
        self._session = session
        self._output = output

    def predict(self, inputs: Inputs) -> NDArray[Any]:
        """Answer all rows in one forward pass; BYTES are UTF-8 text to ONNX."""
        fed = {name: _text(a) if a.dtype == object else a for name, a in inputs.items()}
        (array,) = self._session.run([self._output], fed)
        prediction: NDArray[Any] = array
        return prediction


def load_onnx(path: Path, source: Source, task: Task, threads: int) -> OnnxModel:
    """Open the model, and check that it takes what the task gives.

    Raises:
        ModelError: the file is missing or broken, its inputs or outputs do not fit, or
            onnxruntime is not installed.
    """
    what = f"the ONNX model {path}"
    if source.device not in {None, "cpu"}:
        raise ModelError(f"{what} runs on the CPU: remove `device` under [model].")
    version = source.version or files.short_hash(files.read(path))
    session = _session(path, threads, what)
    _check_inputs(session.get_inputs(), task, what)
    return OnnxModel(session, _output(session.get_outputs(), task, what), version)


def _session(path: Path, threads: int, what: str) -> Any:
    ort = extra("onnxruntime", "onnx", what)
    state = extra("onnxruntime.capi.onnxruntime_pybind11_state", "onnx", what)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    broken = (state.Fail, state.InvalidArgument, state.InvalidGraph, state.InvalidProtobuf)
    unsupported = (state.NoSuchFile, state.NotImplemented, state.RuntimeException)
    try:
        # By path and not by bytes, so that weights in files beside it are found.
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except broken + unsupported as error:
        raise ModelError(
            f"{what} cannot be loaded ({type(error).__name__}: {error}): export it again, for an "
            f"opset that onnxruntime {ort.__version__} knows."
        ) from error


def _text(array: NDArray[Any]) -> NDArray[Any]:
    # Given bytes, onnxruntime would take their repr, b'...' and all.
    decoded = np.empty(array.size, dtype=object)
    decoded[:] = [element.decode() for element in array.flat]
    return decoded.reshape(array.shape)


def _check_inputs(inputs: Sequence[Any], task: Task, what: str) -> None:
    takes = {i.name: i for i in inputs}
    gives = {i.name: i for i in task.inputs}
    if takes.keys() != gives.keys():
        raise ModelError(
            f"{what} takes inputs {sorted(takes)}, and the task gives {sorted(gives)}: export it "
            "with the task's names."
        )
    for name, spec in gives.items():
        shape = list(takes[name].shape)
        if takes[name].type != _TYPES[spec.datatype]:
            raise ModelError(
                f"{what} takes {takes[name].type} for input {name!r}, and the task gives "
                f"{spec.datatype}, {_TYPES[spec.datatype]}: export it with that type."
            )
        if not shape or isinstance(shape[0], int):
            raise ModelError(
                f"{what} has a first axis fixed to {shape[:1]} for input {name!r}: export it with "
                "a dynamic one, since queries of any number of rows share a forward pass."
            )
        fits = len(shape) == 1 + len(spec.shape) and all(
            not isinstance(axis, int) or axis == size
            for axis, size in zip(shape[1:], spec.shape, strict=True)
        )
        if not fits:
            raise ModelError(
                f"{what} takes shape {shape[1:]} a row for input {name!r}, and the task gives "
                f"{list(spec.shape)}: export it with that shape."
            )


def _output(outputs: Sequence[Any], task: Task, what: str) -> str:
    named = [o for o in outputs if o.name == task.output] or list(outputs)
    if len(named) > 1:
        raise ModelError(
            f"{what} has outputs {sorted(o.name for o in outputs)}: export one, or call the one "
            f"with the prediction {task.output!r} as the task does."
        )
    (output,) = named
    if output.type not in {"tensor(float)", "tensor(double)", "tensor(float16)"}:
        raise ModelError(
            f"{what} gives {output.type} as output {output.name!r}: export a float tensor "
            "[rows, classes] (with skl2onnx, use the option zipmap=False)."
        )
    return str(output.name)
