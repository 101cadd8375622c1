"""A `torch.export` archive of the member's own, pinned by the SHA-256 of the bytes that are loaded.

Its loader can unpickle: an archive of somebody else's could run anything (DESIGN 5).
"""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING

from fi_stream.errors import ModelError
from fi_stream.models import files
from fi_stream.models.extras import extra
from fi_stream.models.torch_model import TorchModel

if TYPE_CHECKING:
    from pathlib import Path

    from fi_stream.federation.task import Task
    from fi_stream.models.port import Source


def load_exported(path: Path, source: Source, task: Task) -> TorchModel:
    """Check the hash, then load; the module takes one tensor an input, in the task's order.

    Raises:
        ModelError: the file is missing, is not the pinned one or not an archive, or torch is not
            installed.
    """
    content = files.read(path)
    digest = hashlib.sha256(content).hexdigest()
    if source.sha256 is None:
        raise ModelError(
            f"the exported model {path} has no sha256 under [model]: if the file is your own, add "
            "the output of `sha256sum` on it. Loading somebody else's can run anything."
        )
    if digest != source.sha256.lower():
        raise ModelError(
            f"the exported model {path} has SHA-256 {digest}, and [model] pins "
            f"{source.sha256.lower()}: it was not loaded. Find out who changed it; if you did, "
            "pin the new one."
        )
    torch = extra("torch", "torch", f"the exported model {path}")
    try:
        program = torch.export.load(io.BytesIO(content))
        if source.device is not None:
            passes = extra("torch.export.passes", "torch", f"device {source.device!r}")
            program = passes.move_to_device_pass(program, source.device)
        forward = program.module()
    except Exception as error:  # torch's loader raises whatever its parts raise
        raise ModelError(
            f"the exported model {path} cannot be loaded ({type(error).__name__}: {error}): write "
            "it with `torch.export.save` of a torch no newer than this one."
        ) from error
    version = source.version or files.short_hash(content)
    names = [i.name for i in task.inputs]
    return TorchModel(torch, forward, names, source.device or "cpu", version)
