"""The global options: where they may stand, and what they say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

WITH_VALUE = frozenset({"--config", "--format"})
FLAGS = frozenset({"--verbose", "--version"})

DONE = 0
BROKEN = 1
WRONG_USE = 2
UNPROVEN = 3
OUR_FAULT = 70
"""Of `run` alone, as sysexits.h has it: an error that nobody foresaw."""
TEMPORARY = 75
"""Of `run` alone, as sysexits.h has it: the ledger could not be reached; the same start may succeed later."""


@dataclass(frozen=True, slots=True)
class Options:
    """What every command is told."""

    config: Path | None
    """None: look at RECONCILER_CONFIG, then for config.toml here."""
    format: str | None
    """None: the command's own default."""
    verbose: bool

    def format_among(self, *known: str) -> str:
        """The chosen output format; the first known one where none was chosen. Raises typer.BadParameter."""
        if self.format is None:
            return known[0]
        if self.format not in known:
            raise typer.BadParameter(f"--format {self.format}: this command knows {', '.join(known)}")
        return self.format


def options_of(context: typer.Context) -> Options:
    found = context.find_object(Options)
    assert found is not None, "the table of commands sets it before any command runs"
    return found


def hoist(arguments: Sequence[str]) -> list[str]:
    """The same arguments with the global options first, so that they may stand before or after the command."""
    front: list[str] = []
    rest: list[str] = []
    waiting = iter(arguments)
    for argument in waiting:
        if argument == "--":
            rest.extend([argument, *waiting])
            break
        if argument in FLAGS or (argument.split("=", 1)[0] in WITH_VALUE and "=" in argument):
            front.append(argument)
        elif argument in WITH_VALUE:
            front.extend([argument, *([] if (value := next(waiting, None)) is None else [value])])
        else:
            rest.append(argument)
    return [*front, *rest]
