"""Another configuration while deliveries come in: none is dropped, what cannot be used is refused, and it is told."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from providers.sandbox.signing import signature
from reconciler.app import Daemon, Given
from reconciler.clock import SystemClock
from reconciler.config import Config, load
from reconciler.ledger import Ledger, open_ledger
from reconciler.ledger.store import BUSY_SECONDS
from reconciler.loading import load_accounts
from tests.intake.serving import connection, read_reply

PATIENCE_SECONDS = 180.0
OLD, NEW = "whsec_" + "old" * 8, "whsec_" + "new" * 8

CONFIG = """
[ledger]
url = "{ledger}"
[server]
port = 0
[accounts.main]
provider = "stripe"
api_key = "file:{folder}/key"
webhook_secrets = ["file:{folder}/secret"]
base_url = "{stripe}"
"""


@dataclass
class Running:
    """A daemon in this loop, reading its file anew whenever it is asked to."""

    folder: Path
    ledger: Ledger
    daemon: Daemon
    taken: list[Config] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    @property
    def file(self) -> Path:
        return self.folder / "config.toml"

    async def send(self, secret: str) -> int:
        """One delivery; its answer. Put off after all of the ledger's patience, on a machine that stood still, it comes
        again, as from a provider; a refusal that comes sooner is the answer."""
        content = {"id": f"evt_{next(self._numbers)}", "object": "event", "type": "charge.updated", "livemode": False,
                   "created": int(time.time()), "data": {"object": {"id": "ch_1", "object": "charge"}}}  # fmt: skip
        body = orjson.dumps(content)
        head = (
            f"POST /webhooks/stripe/main HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nstripe-signature: {signature(body, (secret,), int(time.time()))}\r\n\r\n"
        )
        while True:
            began = time.monotonic()
            async with connection(int((self.daemon.url or "").rpartition(":")[2])) as (reader, writer):
                writer.write(head.encode() + body)
                status = (await read_reply(reader)).status
            if status != 503 or time.monotonic() - began < BUSY_SECONDS:
                return status

    async def reload(self, content: str | None = None) -> None:
        """Returns once the file was taken."""
        if content is not None:
            self.file.write_text(content, encoding="utf-8")
        before = len(self.taken)
        self.daemon.reload()
        await self.until(lambda: len(self.taken) > before)

    async def refuse(self, content: str, *words: str) -> None:
        """Returns once the file was refused, for that reason."""
        self.file.write_text(content, encoding="utf-8")
        before = len(self.taken)
        self.daemon.reload()
        await self.until(lambda: any(all(word in text for word in words) for text in self.refused()))
        assert len(self.taken) == before

    def refused(self) -> list[str]:
        with self.ledger.view() as view:
            return [each.text for each in view.open_findings() if each.code == "configuration-refused"]

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await asyncio.to_thread(holds):  # noqa: ASYNC110 - the ledger rings no bell
                await asyncio.sleep(0.05)


@asynccontextmanager
async def running(folder: Path, ledger_url: str) -> AsyncIterator[Running]:
    for name, secret in {"key": "rk_test_x", "secret": OLD, "second": NEW}.items():
        (folder / name).write_text(secret)
    path = folder / "config.toml"
    path.write_text(CONFIG.format(ledger=ledger_url, folder=folder, stripe="http://127.0.0.1:9"), encoding="utf-8")

    def given() -> Given:
        config = load(path, {})
        return Given(config, load_accounts(config))

    with closing(open_ledger(ledger_url)) as ledger:
        taken: list[Config] = []
        first = given()
        daemon = Daemon(first.config, first.accounts, SystemClock(), reread=given, on_taken=taken.append)
        stop = asyncio.Event()
        process = asyncio.create_task(daemon.run(stop))
        listening = asyncio.create_task(daemon.listening.wait())
        await asyncio.wait({process, listening}, return_when=asyncio.FIRST_COMPLETED)
        assert not process.done(), process.result()
        try:
            yield Running(folder, ledger, daemon, taken)
        finally:
            stop.set()
            await process


def test_a_secret_is_rotated_under_load_and_no_delivery_is_dropped(ledger_url: str, tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path, ledger_url) as here:
            signing, answers, over = [OLD], list[int](), asyncio.Event()

            async def keep_sending() -> None:
                while not over.is_set():
                    answers.append(await here.send(signing[-1]))

            senders = [asyncio.create_task(keep_sending()) for _ in range(3)]
            both = here.file.read_text().replace('secret"]', f'secret", "file:{tmp_path}/second"]')
            await here.reload(both)
            signing.append(NEW)
            sent = len(answers)
            await here.until(lambda: len(answers) > sent + 20)
            # Those that were signed with the old one have all been answered by now.
            await here.reload(both.replace(f'"file:{tmp_path}/secret", ', ""))
            sent = len(answers)
            await here.until(lambda: len(answers) > sent + 20)
            over.set()
            await asyncio.gather(*senders)
            assert set(answers) == {200}
            assert await here.send(OLD) == 401
            with here.ledger.view() as view:
                counts = view.delivery_counts()
            assert counts["stored"] == len(answers), "each of them once, and none lost"

    asyncio.run(story())


def test_what_cannot_be_used_is_refused_and_the_old_one_stays(sqlite_ledger_url: str, tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path, sqlite_ledger_url) as here:
            good = here.file.read_text()
            await here.refuse(good + "[server\n", "is not TOML")
            await here.refuse(good.replace("api_key", "api_kee"), "did you mean 'api_key'?")
            await here.refuse(good.replace("port = 0", "port = 9"), "server.port", "restart")
            await here.refuse(good.replace("/secret", "/nowhere"), "webhook_secrets", "cannot be read")
            await here.refuse('[ledger]\nurl = "sqlite:///other.db"\n', "ledger.url")
            await here.refuse(good + '[alerts]\nurls = ["file:' + str(tmp_path / "key") + '"]\n', "alerts.urls")
            assert await here.send(OLD) == 200
            await here.reload(good)
            await here.until(lambda: not here.refused())

    asyncio.run(story())


def test_everything_else_takes_effect_for_the_next_request(sqlite_ledger_url: str, tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path, sqlite_ledger_url) as here:
            port = int((here.daemon.url or "").rpartition(":")[2])
            changed = (
                here.file.read_text().replace(
                    "port = 0", 'port = 0\napi_tokens = ["file:' + str(tmp_path / "key") + '"]'
                )
                + 'allowed_sources = ["10.0.0.0/8"]\n[log]\nlevel = "error"\n[sweeps]\nevery = "7m"\n'
                '[accounts.second]\nprovider = "stripe"\napi_key = "file:' + str(tmp_path / "key") + '"\n'
            )
            await here.reload(changed)
            assert await here.send(OLD) == 403
            assert (here.taken[-1].log.level, str(here.taken[-1].sweeps.every)) == ("error", "0:07:00")
            async with connection(port) as (reader, writer):
                writer.write(b"GET /api/v1/changes HTTP/1.1\r\nhost: x\r\nauthorization: Bearer rk_test_x\r\n\r\n")
                assert (await read_reply(reader)).status == 200
            async with connection(port) as (reader, writer):
                writer.write(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")
                metrics = (await read_reply(reader)).body.decode()
            assert 'reconciler_not_looked_at{account="second"}' in metrics
            assert 'reconciler_deliveries_total{account="main",reason="address",verdict="rejected"} 1.0' in metrics

    asyncio.run(story())


def test_of_any_number_of_eras_only_the_last_goes_on(sqlite_ledger_url: str, tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path, sqlite_ledger_url) as here:
            for _ in range(5):
                await here.reload()
            async with asyncio.timeout(PATIENCE_SECONDS):
                while Counter(_at_work()) != Counter(["worker", "outbox", "pulse", "placer"]):  # noqa: ASYNC110 - tasks end without a word
                    await asyncio.sleep(0.05)

    asyncio.run(story())


def _at_work() -> list[str]:
    names = [task.get_name() for task in asyncio.all_tasks()]
    return [name for name in names if name in ("worker", "outbox", "pulse", "placer", "end of an era")]
