"""Every bad day of docs/operations.md on real processes: the alert, `check`, the console, and that it passes.

One daemon lives through all of them, one after the other, and is the same process at the end. What was sold meanwhile
is in its ledger each time.
"""

from __future__ import annotations

import os
import re
import resource
import signal
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from providers.sandbox import ApiKey
from providers.sandbox.shopify.server import DEFAULT_TOKEN
from reconciler.ledger import open_ledger
from tests.alerts.test_alarm import address
from tests.databases import TestRun, own_server, sqlite_url, start
from tests.operations.providers import API_KEY, Providers
from tests.operations.running import Installation, installed, until

FULL_BYTES: Final = 4096
"""Less than every file of a ledger has, so that none of them can be written to."""

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "operations.md").read_text()


class Postgres:
    """A server of this test's own, because it is killed."""

    def __init__(self, server: Any) -> None:
        self._server = server

    @property
    def url(self) -> str:
        uri: str = self._server.get_uri(driver="psycopg")
        return uri

    def kill(self) -> None:
        """No shutdown: what was not written is gone, as after a power cut of that machine."""
        pid = self._server.get_pid()
        os.kill(pid, signal.SIGKILL)
        until(lambda: not Path(f"/proc/{pid}").exists() or self._server.get_pid() != pid, "the server is gone")

    def start(self) -> None:
        start(self._server)


def sell(here: Installation) -> str:
    """Somebody pays; the charge, which must not get lost."""
    charge: str = here.providers.act("payments.pay", amount=2500)["latest_charge"]
    return charge


def arrives(here: Installation, charge: str) -> None:
    until(lambda: here.has("charge", charge), f"{charge} is in the ledger")


def told(here: Installation, code: str, *words: str, since: int) -> None:
    until(lambda: here.alerted(code, *words, since=since), f"somebody is told of {code}")


def shown(here: Installation, code: str) -> None:
    until(lambda: code in here.console()[1], f"the console shows {code}")


def found(here: Installation, code: str, *words: str) -> None:
    """`check` names it, says those words, and ends with 1."""

    def is_found() -> bool:
        ended, wrong = here.check()
        return ended == 1 and code in wrong and all(word in wrong[code] for word in words)

    until(is_found, f"check finds {code}")


def not_looked_at(here: Installation, account: str) -> None:
    until(lambda: account in {each["account"] for each in here.status()["not_looked_at"]}, f"{account} is not read")


# --- the days -------------------------------------------------------------------------------------


def the_secret_is_rotated(here: Installation, _: Postgres) -> None:
    since = len(here.told.told)
    endpoint = here.providers.ask(lambda: here.providers.stripe.world.endpoints.all()[0]["id"])
    rolled = here.providers.act("endpoints.roll_secret", endpoint=endpoint, keep_old=False)
    charge = sell(here)
    told(here, "rejected-burst", "wrong", "webhook_secrets", since=since)
    # What is told is noted once it was sent.
    until(lambda: "rejected-burst" in {alert["code"] for alert in here.status()["alerts"]}, "status has the alert")
    shown(here, "rejected-burst")
    here.write("webhook_secret", rolled["secret"])
    here.daemon.reload()
    arrives(here, charge)


def postgres_is_killed(here: Installation, postgres: Postgres) -> None:
    since = len(here.told.told)
    postgres.kill()
    charge = sell(here)  # answered 503 meanwhile, and sent again
    told(here, "ledger-unavailable", "503", since=since)
    found(here, "ledger", "database runs")
    status, page = here.console()
    assert (status, "ledger" in page) == (503, True), page
    assert here.daemon.get("/readyz")[0] == 503
    postgres.start()
    arrives(here, charge)
    until(lambda: here.daemon.get("/readyz")[0] == 200, "the daemon is ready again")


def the_key_is_revoked(here: Installation, _: Postgres) -> None:
    since = len(here.told.told)
    here.providers.ask(lambda: here.providers.stripe.keys.put(ApiKey(API_KEY, revoked=True)))
    charge = sell(here)
    told(here, "gate-credentials", "main", since=since)
    found(here, "credentials_rejected", "put a valid api_key")
    shown(here, "gate-credentials")
    not_looked_at(here, "main")
    here.providers.ask(lambda: here.providers.stripe.keys.put(ApiKey("sk_test_the_next_one")))
    here.write("api_key", "sk_test_the_next_one")
    here.daemon.reload()
    arrives(here, charge)


def the_token_expires(here: Installation, _: Postgres) -> None:
    since = len(here.told.told)
    grants = here.providers.shop.grants
    here.providers.ask(lambda: grants.issue(DEFAULT_TOKEN, until=here.providers.clock.now()))
    told(here, "gate-credentials", "shop", since=since)
    until(lambda: any("shop" in text for text in here.check()[1].values()), "check finds something at the shop")
    assert here.check()[0] == 1
    not_looked_at(here, "shop")
    order = here.providers.ask(here.providers.shop.shop.place_order)
    here.providers.ask(lambda: grants.issue("shpat_the_next_one"))
    here.write("token", "shpat_the_next_one")
    here.daemon.reload()
    until(lambda: here.has("order", str(order["id"]), account="shopify/shop"), "the order is in the ledger")


def the_network_is_lost(here: Installation, _: Postgres) -> None:
    since = len(here.told.told)
    with here.providers.offline():
        charge = sell(here)
        told(here, "gate-unavailable", "main", since=since)
        found(here, "main", "can be reached")
        shown(here, "gate-unavailable")
        not_looked_at(here, "main")
    arrives(here, charge)


def the_endpoint_is_deleted(here: Installation, _: Postgres) -> None:
    since = len(here.told.told)
    stripe = here.providers.stripe
    endpoint = here.providers.ask(lambda: stripe.world.endpoints.all()[0])
    secret = here.providers.ask(lambda: stripe.world.endpoints.routes[endpoint["id"]].secrets[0])
    here.providers.act("endpoints.delete", endpoint=endpoint["id"])
    charge = sell(here)
    told(here, "webhook_missing", "Workbench", since=since)
    arrives(here, charge)  # by the feed: no webhook will ever tell
    found(here, "webhook_missing")
    until(lambda: "webhook_missing" in here.findings(), "status has it")
    shown(here, "webhook_missing")
    here.providers.ask(lambda: stripe.add_endpoint(endpoint["url"], secret=secret))
    until(lambda: "webhook_missing" not in here.findings(), "the finding is taken back")


def the_clock_is_wrong(here: Installation, _: Postgres) -> None:
    """Only the difference can be seen, so it is Stripe's that is set back."""
    since = len(here.told.told)
    here.providers.clock.off_by = -timedelta(minutes=10)
    charge = sell(here)
    told(here, "clock_skew", "NTP", since=since)
    found(here, "clock_skew", "ahead of")
    until(lambda: "clock_skew" in here.findings(), "status has it")
    shown(here, "clock_skew")
    here.providers.clock.off_by = timedelta(0)
    arrives(here, charge)
    until(lambda: "clock_skew" not in here.findings(), "the finding is taken back")


def the_disk_fills_up(here: Installation, _: Postgres) -> None:
    """Every disk has less free than all of it."""
    since = len(here.told.told)
    here.configure(lambda text: text.replace("[alerts]", f"[alerts]\ndisk_share = 1.0\ndisk_bytes = {2**60}"))
    here.daemon.reload()
    told(here, "disk-low", "make room", str(here.folder), since=since)
    until(lambda: "make room" in here.check()[1].get("disk-low", ""), "check finds it")
    until(lambda: "disk-low" in here.findings(), "status has it")
    shown(here, "disk-low")
    here.configure(lambda text: text.replace(f"disk_share = 1.0\ndisk_bytes = {2**60}", "disk_share = 0"))
    here.daemon.reload()
    until(lambda: "disk-low" not in here.findings(), "the finding is taken back")
    assert "disk-low" not in here.check()[1]


def the_disk_is_full(here: Installation, _: Postgres) -> None:
    """A file that may not grow refuses with an error of the same sort as a full disk, without filling one."""
    since = len(here.told.told)
    pid = here.daemon.pid
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (FULL_BYTES, resource.RLIM_INFINITY))
    charge = sell(here)
    told(here, "ledger-unavailable", "room on its disk", since=since)
    status, _page = here.daemon.get("/readyz")
    assert status == 503
    assert here.waiting() > 0, "503, so that it comes again"
    code, wrong = here.check(file_bytes=FULL_BYTES)
    assert code == 1
    assert "room on its disk" in wrong["ledger"]
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    arrives(here, charge)
    until(lambda: here.daemon.get("/readyz")[0] == 200, "the daemon is ready again")


DAYS: Final[tuple[Callable[[Installation, Postgres], None], ...]] = (
    the_secret_is_rotated,
    postgres_is_killed,
    the_key_is_revoked,
    the_token_expires,
    the_network_is_lost,
    the_endpoint_is_deleted,
    the_clock_is_wrong,
)
ON_SQLITE: Final = (the_disk_fills_up, the_disk_is_full)


@pytest.mark.long
def test_a_daemon_lives_through_every_bad_day(test_run: TestRun, tmp_path: Path) -> None:
    with (
        own_server(test_run) as server,
        Providers() as providers,
        address() as there,
        installed(tmp_path, (postgres := Postgres(server)).url, providers, there) as here,
    ):
        arrives(here, sell(here))
        for day in DAYS:
            print(day.__name__)  # noqa: T201 - pytest shows it where the day went wrong
            day(here, postgres)
        assert here.daemon.logged("a job ended in an error of ours") == []


@pytest.mark.long
def test_a_daemon_on_sqlite_lives_through_a_disk_that_fills_up_and_is_full(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "ledger.db")
    with Providers() as providers, address() as there, installed(tmp_path, url, providers, there) as here:
        arrives(here, sell(here))
        for day in ON_SQLITE:
            day(here, Postgres(None))
        with closing(open_ledger(url)) as ledger, ledger.store.read() as tx:
            assert tx.run(_sound()).scalar_one() == "ok"


def _sound() -> Any:
    from sqlalchemy import text

    return text("PRAGMA integrity_check")


def test_every_documented_bad_day_is_lived_through() -> None:
    table = PAGE[PAGE.index("## Bad days") :]
    documented = re.findall(r"^\| \*\*(.+?)\*\* \|", table, re.MULTILINE)
    assert documented == [day.__name__.replace("_", " ").capitalize() for day in (*DAYS, *ON_SQLITE)]
