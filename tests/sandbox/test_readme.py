"""The sandbox's page shows code that runs and names paths that exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import httpx

from providers.sandbox import ThreadedSandbox
from tests.sandbox_fixtures import sandbox

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "providers" / "sandbox" / "README.md").read_text()
__all__ = ["sandbox"]


def test_the_shown_code_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=180, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert "'currency': 'eur'" in ran.stdout


def test_the_named_paths_are_all_there_are(sandbox: ThreadedSandbox) -> None:
    named = set(re.findall(r"`(?:GET|POST|DELETE) (\w+)`", PAGE))
    there = {path.rpartition("/")[2] for path in httpx.get(f"{sandbox.url}/_sandbox/", timeout=120).json()["there_are"]}
    assert named == there
