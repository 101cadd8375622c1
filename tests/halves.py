"""Runs the tests in two halves at once, as `make test` does.

Most tests wait, for brokers and for processes: on two cores both halves take little more than one.
A shell would have its background half ignore Ctrl+C, and with it all that the half starts.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).parent
HALF = ("bench", "cli", "compose", "demo", "docs", "load", "privacy", "transport")
"""The folders of the half that is shown when the other one is over."""


def main() -> int:
    """Run both; 0 when all tests passed."""
    pytest = [sys.executable, "-m", "pytest"]
    folders = [str(TESTS / name) for name in HALF]
    with tempfile.TemporaryFile() as kept:
        half = subprocess.Popen([*pytest, *folders], stdout=kept, stderr=subprocess.STDOUT)
        try:
            ignored = [f"--ignore={folder}" for folder in folders]
            rest = subprocess.run([*pytest, str(TESTS), *ignored], check=False).returncode
        finally:
            code = half.wait()
            kept.seek(0)
            sys.stdout.write(kept.read().decode(errors="replace"))
    return code or rest


if __name__ == "__main__":
    sys.exit(main())
