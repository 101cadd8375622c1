"""`python -m fi_stream.privacy.drawing`: draws noise for the process that started it, and no other.

It reads what is wanted from its standard input, a line of JSON each, and writes the numbers to its
standard output, little-endian int64. It ends when nobody wants any more: at the end of its input,
which comes however its owner ended.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import IO, Any, Final

import numpy as np

from fi_stream.federation.policy import Selection
from fi_stream.privacy.draws import Gaussians, Kind, Offsets, Places, draw

NUMBER: Final = np.dtype("<i8")


def asked_for(kind: Kind, count: int) -> bytes:
    """The line that asks for draws of a kind."""
    match kind:
        case Offsets(classes, keep):
            fields: dict[str, Any] = {"classes": classes, "keep": keep}
        case Gaussians(scale):
            fields = {"scale": scale}
        case Places(selection, scale, votes):
            fields = {"selection": selection.value, "scale": scale, "votes": votes}
    return json.dumps({"count": count, **fields}).encode() + b"\n"


def read_asked(line: bytes) -> tuple[Kind, int]:
    """What such a line asks for."""
    match json.loads(line):
        case {"count": int(count), "classes": int(classes), "keep": float(keep)}:
            return Offsets(classes, keep), count
        case {"count": int(count), "selection": selection, "scale": float(scale), "votes": votes}:
            return Places(Selection(selection), scale, tuple(votes)), count
        case {"count": int(count), "scale": float(scale)}:
            return Gaussians(scale), count
        case other:
            raise ValueError(f"no noise is called {other!r}")


def serve(asking: IO[bytes], giving: IO[bytes]) -> None:
    """Answer one line after another, until there are none."""
    for line in asking:
        kind, count = read_asked(line)
        giving.write(draw(kind, count).astype(NUMBER).tobytes())
        giving.flush()


def main() -> int:
    """Serve the owner; its end, at whatever moment, is an ordinary one for this process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        serve(sys.stdin.buffer, sys.stdout.buffer)
    except BrokenPipeError:
        # The owner is gone: nothing is left to flush, and nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
