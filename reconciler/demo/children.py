"""The demo's processes: started with a log of their own, watched, and ended by pid on every way out."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

import reconciler
from reconciler.demo.plan import CONFIG
from reconciler.errors import ReconcilerError

_SOURCES = Path(reconciler.__file__).resolve().parents[1]
_PATIENCE = timedelta(minutes=2)
"""The daemon takes ten seconds at most to stop, and longer where the machine is very busy."""


class ChildFailed(ReconcilerError):
    """A process of the demo ended, or did not begin, although nobody asked it to; its log says more."""


class Child:
    """One `python -m ...` of this very code."""

    def __init__(self, name: str, running: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self._running = running
        self.log = log

    @classmethod
    async def start(
        cls, name: str, arguments: Sequence[str], *, folder: Path, secrets: Mapping[str, str], talks: bool = False
    ) -> Self:
        """`talks`: its stdout is ours to read; else both streams go to the log `folder/name.log`."""
        log = folder / f"{name}.log"
        with log.open("ab") as out:
            running = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                *arguments,
                cwd=folder,
                env={**_environment(), **secrets},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE if talks else out,
                stderr=out,
                # Ctrl-C is for us alone: we end the children, in order.
                start_new_session=True,
            )
        return cls(name, running, log)

    @property
    def pid(self) -> int:
        return self._running.pid

    @property
    def alive(self) -> bool:
        return self._running.returncode is None

    def require_alive(self) -> None:
        """Raises ChildFailed."""
        if not self.alive:
            raise ChildFailed(
                f"the {self.name} ended with {self._running.returncode}; its last words: {self.last_words()}"
            )

    async def first_line(self, within: timedelta) -> bytes:
        """Raises ChildFailed where none comes in time."""
        assert self._running.stdout is not None, "only a child that talks has a first line"
        try:
            async with asyncio.timeout(within.total_seconds()):
                line = await self._running.stdout.readline()
        except TimeoutError as error:
            raise ChildFailed(f"the {self.name} said nothing within {within}: {self.last_words()}") from error
        if not line:
            await self._running.wait()
            self.require_alive()
        return line

    async def kill(self) -> None:
        """SIGKILL, and the zombie is gone when this returns: the next life looks whether the pid still exists."""
        with contextlib.suppress(ProcessLookupError):
            self._running.send_signal(signal.SIGKILL)
        await self._running.wait()

    async def end(self) -> int:
        """SIGTERM, then SIGKILL where that is not enough; the exit status."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                self._running.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(_PATIENCE.total_seconds()):
                    await self._running.wait()
            except TimeoutError:
                await self.kill()
        assert self._running.returncode is not None
        return self._running.returncode

    def last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1][:500] if lines else "(its log is empty)"


def report_arguments(cut_off: datetime) -> tuple[str, ...]:
    """What asks for the business day that ended at an instant, in UTC."""
    day = (cut_off - timedelta(days=1)).date().isoformat()
    return "--from", day, "--to", day, "--day-start", cut_off.time().isoformat()


async def ask_report(folder: Path, cut_off: datetime, *, as_json: bool = False) -> bytes:
    """`reconcile report` of the day until `cut_off`, straight to our stdout; as JSON it is returned instead.

    Its exit code is a matter of its own: a day can end with payments that nobody confirmed, and be told rightly.
    """
    told = ["--format", "json"] if as_json else []
    running = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "reconciler", "--config", str(folder / CONFIG), *told, "report", *report_arguments(cut_off)),
        cwd=folder,
        env=_environment(),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE if as_json else None,
    )
    try:
        out, _ = await running.communicate()
    except asyncio.CancelledError:
        running.kill()
        await running.wait()
        raise
    if running.returncode not in (0, 1, 3):
        raise ChildFailed(f"`reconcile report` ended with {running.returncode}")
    return out or b""


def _environment() -> dict[str, str]:
    """Ours, without settings that were meant for another daemon, and with this code first."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith("RECONCILER")}
    path = [str(_SOURCES), *filter(None, [kept.get("PYTHONPATH")])]
    return kept | {"PYTHONPATH": os.pathsep.join(path), "PYTHONUNBUFFERED": "1"}


@contextlib.contextmanager
def reserved_port() -> Iterator[int]:
    """One that the system picks, and that whoever names it may listen at until the end.

    On Linux nobody else is given it meanwhile, because a socket is bound to it that does not listen. Elsewhere that
    would keep everybody out, so there somebody else may take it first.
    """
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        if sys.platform != "linux":
            held.close()
        yield port
