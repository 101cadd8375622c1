"""The code that a document shows, for tests that run it."""

from __future__ import annotations

import re
from pathlib import Path


def shown(document: str, heading: str) -> str:
    """The first block of Python below a heading of `docs/`."""
    text = (Path(__file__).parents[1] / "docs" / document).read_text("utf-8")
    _, found, below = text.partition(f"\n## {heading}\n")
    assert found, heading
    block = re.search(r"^```python\n(.*?)^```$", below, re.MULTILINE | re.DOTALL)
    assert block is not None
    return block[1]
