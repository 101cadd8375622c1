"""From a member file's `[model]` to a model behind the port."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fi_stream.errors import ModelError
from fi_stream.models.exported import load_exported
from fi_stream.models.factory import load_factory
from fi_stream.models.onnx import load_onnx
from fi_stream.models.port import Source

if TYPE_CHECKING:
    from fi_stream.federation.task import Task
    from fi_stream.models.port import Model


def load(source: Source, task: Task, directory: Path, threads: int) -> Model:
    """Load a participant's model.

    Args:
        source: where it comes from.
        task: what it must answer.
        directory: of member.toml; relative paths and modules are looked for here.
        threads: for a model that computes by itself (ONNX); see `threads.use_threads`.

    Raises:
        ModelError: it cannot be loaded, or its declared inputs do not fit the task.
    """
    match source:
        case Source(factory=str(reference), onnx=None, exported=None):
            return load_factory(reference, source, task, directory)
        case Source(factory=None, onnx=Path() as path, exported=None):
            return load_onnx(directory / path, source, task, threads)
        case Source(factory=None, onnx=None, exported=Path() as path):
            return load_exported(directory / path, source, task)
        case _:
            raise ModelError(
                "[model] names no model, or more than one: give one of factory, onnx, exported."
            )
