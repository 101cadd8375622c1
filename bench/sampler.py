"""A profile by sampling: each millisecond of processor time, note which functions are under way.

Unlike cProfile it costs next to nothing a call, so that many small functions do not look worse
than they are. What C code does counts for the Python function that called it.
"""

from __future__ import annotations

import json
import signal
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType, FrameType

_EVERY = 0.001


@contextmanager
def sampled(file: Path) -> Iterator[None]:
    """Sample the main thread of this process inside the block; the counts go to `file`.

    They are JSON: all samples, and for each function those in itself and those in or below it.
    """
    own: Counter[CodeType] = Counter()
    whole: Counter[CodeType] = Counter()

    def note(_signal: int, frame: FrameType | None) -> None:
        if frame is not None:
            own[frame.f_code] += 1
        under_way = set()
        while frame is not None:
            under_way.add(frame.f_code)
            frame = frame.f_back
        whole.update(under_way)

    signal.signal(signal.SIGPROF, note)
    signal.setitimer(signal.ITIMER_PROF, _EVERY, _EVERY)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        functions = [[_name(code), own[code], count] for code, count in whole.items()]
        file.write_text(json.dumps({"samples": own.total(), "functions": functions}), "utf-8")


def _name(code: CodeType) -> str:
    """Where a function is, from its package on."""
    path = Path(code.co_filename)
    parts = path.parts
    roots = [at for at, part in enumerate(parts) if part in ("site-packages", "fi_stream")]
    # From `fi_stream` itself on, but from what is inside `site-packages`.
    from_here = roots[-1] + (parts[roots[-1]] == "site-packages") if roots else -2
    return f"{'/'.join(parts[from_here:])}:{code.co_firstlineno} {code.co_name}"
