"""`python -m tests.fuzz [--examples N] [--seconds S] [--only NAME]`: each parser of outside bytes, for a night.

Exit code 1: one raised something that is no error of ours; the least example is on stderr.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.fuzz.borders import BORDERS
from tests.fuzz.test_borders import hold

_AT_ONCE = 500


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--examples", type=int, default=20_000, help="for each parser")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="for each parser")
    parser.add_argument("--only", default="")
    chosen = parser.parse_args()
    broken = 0
    for border in BORDERS:
        if chosen.only not in border.name:
            continue
        began, done = time.monotonic(), 0
        try:
            with tempfile.TemporaryDirectory() as folder:
                while done < chosen.examples and time.monotonic() - began < chosen.seconds:
                    hold(border, Path(folder), min(_AT_ONCE, chosen.examples - done))
                    done += _AT_ONCE
        except Exception:
            traceback.print_exc()
            broken += 1
        sys.stdout.write(f"{border.name}: {min(done, chosen.examples):,} examples, {time.monotonic() - began:.0f} s\n")
        sys.stdout.flush()
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
