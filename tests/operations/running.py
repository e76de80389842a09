"""A real daemon as it is installed: a configuration file, secrets in files, somebody who is told; and what it says."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from providers.sandbox.shopify.server import DEFAULT_SECRET
from providers.shopify.topics import REQUIRED
from reconciler.errors import LedgerUnavailable
from reconciler.ledger import open_ledger
from reconciler.model import ResourceRef, State
from tests.alerts.test_alarm import Address, address_of
from tests.cli.running import ROOT, Ran, run_here
from tests.operations.providers import API_KEY, PATIENCE_SECONDS, TOKEN, WEBHOOK_SECRET, Providers

CONFIG = """
[ledger]
url = "{ledger}"
[server]
port = 0
[accounts.main]
provider = "stripe"
api_key = "file:{folder}/api_key"
webhook_secrets = ["file:{folder}/webhook_secret"]
base_url = "{stripe}"
[accounts.shop]
provider = "shopify"
shop = "{shop}"
access_token = "file:{folder}/token"
webhook_secrets = ["file:{folder}/client_secret"]
base_url = "{shopify}"
[sweeps]
every = "2s"
lag = "1s"
overlap = "30s"
watch_every = "1s"
[retry]
max_wait = "1s"
[worker]
request_timeout = "5s"
[console]
trusted_proxies = ["127.0.0.0/8"]
proxy_user_header = "x-forwarded-user"
proxy_role_header = "x-forwarded-role"
[alerts]
urls = ["file:{folder}/told"]
every = "1s"
outage = "1s"
rejected = 3
"""

_AWAY = "the ledger's database"
_TRIES = 30


class Daemon:
    """One process of `reconcile run`."""

    def __init__(self, config: Path, *arguments: str, program: Path = ROOT, ahead_seconds: float | None = None) -> None:
        """`ahead_seconds`: by how much its machine's clock is ahead."""
        module = ["reconciler"] if ahead_seconds is None else ["tests.operations.ahead", str(ahead_seconds)]
        self.config = config
        self.log = config.with_suffix(".log")
        with self.log.open("ab") as out:
            self.running = subprocess.Popen(
                [sys.executable, "-m", *module, "--config", str(config), "run", *arguments],
                cwd=config.parent,
                env={"PATH": os.defpath, "PYTHONPATH": str(program)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        self.url = ""
        until(self._has_begun, "the daemon says where it listens")

    @property
    def pid(self) -> int:
        return self.running.pid

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def lines(self) -> list[dict[str, Any]]:
        """What it logged; a line that is being written is none yet."""
        whole, _, _ = self.log.read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]

    def logged(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["event"] == event]

    def reload(self) -> None:
        """SIGHUP; returns when it was answered, either way."""
        before = self._answers()
        self.running.send_signal(signal.SIGHUP)
        until(lambda: self._answers() > before, "the reload is answered")

    def get(self, path: str, headers: Mapping[str, str] = {}) -> tuple[int, str]:
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)) as connection:
            connection.request("GET", path, headers=dict(headers))
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def stop(self) -> int:
        self.running.send_signal(signal.SIGTERM)
        try:
            return self.running.wait(PATIENCE_SECONDS)
        finally:
            self.running.kill()

    def _answers(self) -> int:
        return len(self.logged("configuration taken")) + len(self.logged("configuration not taken, the old one stays"))

    def _has_begun(self) -> bool:
        assert self.running.poll() is None, self.log.read_text()[-3000:]
        said = self.logged("running")
        self.url = said[-1]["url"] if said else ""
        return bool(said)


@dataclass
class Installation:
    """A daemon with its configuration, both providers, and where its alerts go."""

    folder: Path
    ledger_url: str
    providers: Providers
    told: Address
    daemon: Daemon

    # --- what an operator writes ---

    def write(self, name: str, content: str) -> None:
        (self.folder / name).write_text(content, encoding="utf-8")

    def configure(self, change: Callable[[str], str]) -> None:
        """Edits the file; whoever wants it taken reloads."""
        path = self.daemon.config
        path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")

    # --- what an operator sees ---

    def alerted(self, code: str, *words: str, since: int = 0) -> bool:
        """Whether a message told of it, after the first `since` messages."""
        bodies = [message["message"] for message in self.told.told[since:]]
        return any(f" {code}: " in body and all(word in body for word in words) for body in bodies)

    def check(self, *, file_bytes: int | None = None) -> tuple[int, Mapping[str, str]]:
        """Exit code, and of each line that is not well its code (or what it is about) and what it says to do.

        `file_bytes`: no file may grow beyond that, as for the daemon.
        """
        ran = self.run("check") if file_bytes is None else self._run_confined("check", file_bytes)
        wrong = [line for line in ran.json["checks"] if not line["ok"]]
        assert all(line["remedy"] for line in wrong), wrong
        return ran.code, {line["code"] or line["what"]: f"{line['text']}: {line['remedy']}" for line in wrong}

    def status(self) -> Any:
        return self.run("status").json

    def console(self) -> tuple[int, str]:
        """The first page, as somebody sees it whom the proxy has let in."""
        return self.daemon.get("/console", {"x-forwarded-user": "ann", "x-forwarded-role": "operator"})

    def findings(self) -> set[str]:
        return {each["code"] for each in self.status()["findings"]}

    def run(self, *arguments: str) -> Ran:
        """Again while the ledger is away: a busy machine's may not answer within the two seconds of the product."""
        for _ in range(_TRIES):
            ran = run_here("--config", str(self.daemon.config), "--format", "json", *arguments)
            if ran.code != 2 or _AWAY not in ran.err:
                break
        return ran

    def _run_confined(self, command: str, file_bytes: int) -> Ran:
        ran = subprocess.run(
            [sys.executable, "-m", "reconciler", "--config", str(self.daemon.config), "--format", "json", command],
            env={"PATH": os.defpath, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, resource.RLIM_INFINITY)),
        )
        return Ran(ran.returncode, ran.stdout, ran.stderr)

    # --- what must hold ---

    def waiting(self) -> int:
        """Deliveries that Stripe is going to send again."""
        return self.providers.ask(lambda: self.providers.stripe.sender.summary().get("waiting", 0))

    def has(self, kind: str, name: str, *, account: str = "stripe/main") -> bool:
        """Whether the ledger holds it, read to the end."""
        return is_read(self.ledger_url, ResourceRef.parse(f"{account}/{kind}/{name}"))

    def calm(self) -> bool:
        """Nothing open: no gate, no alert of ours, nothing waiting."""
        status, text = self.daemon.get("/metrics")
        open_alerts = [line for line in text.splitlines() if line.startswith("reconciler_alerts{")]
        gates = [line for line in text.splitlines() if line.startswith("reconciler_gate_closed{")]
        return status == 200 and not open_alerts and not gates


def until(holds: Callable[[], bool], what: str, *, within: float = PATIENCE_SECONDS) -> None:
    """Wait for a condition, however long a busy machine takes; what does not come true is named."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() < began + within, f"after {within:g} s it is still not so that {what}"
        time.sleep(0.1)
    print(f"  {time.monotonic() - began:5.1f} s until {what}")  # noqa: T201 - shown where a later step fails


def is_read(url: str, ref: ResourceRef) -> bool:
    """To the end, and in the ledger at `url`."""
    try:
        with closing(open_ledger(url)) as ledger, ledger.view() as view:
            found = view.resource(ref)
    except LedgerUnavailable:
        return False
    return found is not None and found.state is State.PRESENT and not found.dirty


def pay_and_wait(providers: Providers, url: str) -> None:
    """A payment that a webhook tells of, until it is read, and in the ledger at `url`."""
    charge = ResourceRef("stripe", "main", "charge", providers.act("payments.pay", amount=2500)["latest_charge"])
    until(lambda: is_read(url, charge), f"{charge} is read")


@contextmanager
def installed(folder: Path, ledger_url: str, providers: Providers, told: Address) -> Iterator[Installation]:
    secrets = {
        "api_key": API_KEY,
        "webhook_secret": WEBHOOK_SECRET,
        "client_secret": DEFAULT_SECRET,
        "token": TOKEN,
        "told": address_of(told.port),
    }
    for name, secret in secrets.items():
        (folder / name).write_text(secret)
    config = folder / "config.toml"
    shop = providers.shop
    config.write_text(
        CONFIG.format(ledger=ledger_url, folder=folder, stripe=providers.stripe_url, shop=shop.shop.domain,
                      shopify=shop.url)
    )  # fmt: skip
    daemon = Daemon(config)
    try:
        providers.inwards.target = daemon.port
        address = f"http://127.0.0.1:{providers.inwards.port}/webhooks/stripe/main"
        providers.ask(lambda: providers.stripe.add_endpoint(address, secret=WEBHOOK_SECRET))
        shop_address = f"{daemon.url}/webhooks/shopify/shop"
        providers.ask(lambda: shop.subscribe(shop_address, REQUIRED))
        yield Installation(folder, ledger_url, providers, told, daemon)
        assert daemon.running.poll() is None, "the same process lived through all of it"
    finally:
        code = daemon.stop()
    assert code == 0, daemon.log.read_text()[-3000:]
