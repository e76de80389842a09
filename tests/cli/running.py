"""Running the command, in this process or in one of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from typer.testing import CliRunner

from reconciler.cli import app

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def run_here(*arguments: str, stdin: str | None = None) -> Ran:
    try:
        ran = CliRunner().invoke(app, list(arguments), input=stdin)
    finally:
        # The command set up logging on a stream that is closed now; whoever logs next in this process would fail.
        structlog.reset_defaults()
    return Ran(ran.exit_code, ran.stdout, ran.stderr)


def run_apart(
    *arguments: str, folder: Path, environment: Mapping[str, str] | None = None, stdin: str | None = None
) -> Ran:
    """A real process in `folder`, with nothing of this one's environment but the way to Python."""
    ran = subprocess.run(
        [sys.executable, "-m", "reconciler", *arguments],
        cwd=folder,
        env={"PATH": os.defpath, "PYTHONPATH": str(ROOT), **(environment or {})},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    return Ran(ran.returncode, ran.stdout, ran.stderr)
