"""No key, no token and no field of a person in any log line, metric, finding or error, whatever happens.

The real daemon meets deliveries, forgeries, refusals and hostile answers, all of them full of marked words; then
everything that it said is searched. What it stored is its own matter, and is searched for the opposite.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import io
import json
import logging
import time
import traceback
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import structlog
from sqlalchemy import text

from providers.shopify.kinds import ROUTES as SHOPIFY_ROUTES
from providers.stripe.kinds import KINDS as STRIPE_KINDS
from providers.stripe.permissions import PERMISSIONS
from reconciler import log
from reconciler.app import Daemon
from reconciler.clock import SystemClock
from reconciler.config import load
from reconciler.ledger import Ledger, open_ledger
from reconciler.loading import load_accounts
from tests.cli.running import run_here
from tests.intake.serving import Reply, connection, read_reply
from tests.ledger.factories import ref
from tests.outbox.harness import SECRET as HOOK_SECRET
from tests.stripe.server import Asked, Says, Script, body, error, listing

PERSON = ("ada.marked@example.com", "Marked Lovelace", "+44-marked-7946", "12 Marked Square", "cardmarked4242")
SECRETS = {
    "STRIPE_KEY": "rk_live_MARKEDkeyofmain", "LOCKED_KEY": "sk_live_MARKEDkeyoflocked",
    "SHOP_TOKEN": "shpat_MARKED0123456789", "WEBHOOK": "whsec_MARKEDwebhook", "SHOP_SECRET": "MARKEDshopsecret",
    "API_TOKEN": "MARKEDapitoken0123456789", "ALERT": "json://op:MARKEDalertpass@127.0.0.1:9/",
    "HEART": "http://127.0.0.1:9/MARKEDheartbeat", "HOOK": HOOK_SECRET,
}  # fmt: skip
MARKS = (*PERSON, "MARKED", "marked", HOOK_SECRET)

CONFIG = """
[ledger]
url = "{ledger}"
[server]
port = 0
api_tokens = ["env:API_TOKEN"]
[accounts.main]
provider = "stripe"
api_key = "env:STRIPE_KEY"
webhook_secrets = ["env:WEBHOOK"]
base_url = "{url}"
[accounts.locked]
provider = "stripe"
api_key = "env:LOCKED_KEY"
base_url = "{url}/locked"
[accounts.shop]
provider = "shopify"
shop = "example.myshopify.com"
access_token = "env:SHOP_TOKEN"
webhook_secrets = ["env:SHOP_SECRET"]
base_url = "{url}/shop"
[retry]
attempts = 2
max_wait = "1s"
[alerts]
urls = ["env:ALERT"]
heartbeat = "env:HEART"
every = "1s"
oldest_dirty = "0s"
[outbox]
allowed_networks = ["127.0.0.0/8"]
timeout = "1s"
[[subscriptions]]
name = "erp"
url = "http://127.0.0.1:9/hook?key=MARKEDhook"
secrets = ["env:HOOK"]
body = "full"
"""

_PERSON = {"email": PERSON[0], "name": PERSON[1], "phone": PERSON[2], "address": {"line1": PERSON[3]}}
_ASIDE = {"billing_details": _PERSON, "receipt_email": PERSON[0], "description": f"for {PERSON[1]}",
          "metadata": {"card": PERSON[4]}}  # fmt: skip


def _charge(name: str, **more: object) -> dict[str, object]:
    return {"id": name, "object": "charge", "amount": 500, "amount_captured": 500, "captured": True, "currency": "usd",
            "created": 1772445600, "status": "succeeded", "livemode": True, **_ASIDE, **more}  # fmt: skip


def _answer(asked: Asked) -> Says:
    """Hostile where it can be: it quotes whatever it was told, and people besides."""
    quoted = (
        f"{asked.headers.get('authorization', '')} of {PERSON[0]} {asked.headers.get('x-shopify-access-token', '')}"
    )
    html = Says(502, f"<html>{PERSON[1]} {quoted}</html>".encode(), {"content-type": "text/html"})
    name = asked.path.rpartition("/")[2]
    if asked.path.startswith("/locked"):
        return error(401, "api_key_invalid", f"Invalid API Key provided: {quoted}")
    if asked.path.startswith("/shop"):
        return body({"errors": f"[API] Invalid API key or access token {quoted}"}, 401)
    answers = {
        "ch_good": body(_charge("ch_good")),
        "ch_html": html,
        "ch_down": error(500, None, quoted),
        "ch_bad": error(400, "parameter_invalid", quoted),
        "ch_weird": body(_charge("ch_weird", amount=PERSON[4], created=PERSON[2], status=7, currency=PERSON[0])),
        "ch_other": body(_charge(PERSON[0])),
        "ch_text": Says(200, f'"{PERSON[0]}"'.encode()),
        "ch_cut": Says(200, f'{{"id": "{PERSON[0]}'.encode()),
        "ch_slow": error(429, "rate_limit", quoted, retry_after="1"),
        "ch_closed": error(403, "permission", f"the key {quoted} does not have the required permissions"),
    }
    return answers.get(name, listing())


def _signed(content: bytes, secret: str) -> str:
    at = int(time.time())
    return f"t={at},v1={hmac.new(secret.encode(), f'{at}.'.encode() + content, hashlib.sha256).hexdigest()}"


def _event(name: str, kind: str = "charge.updated") -> bytes:
    event = {"id": f"evt_{name}", "object": "event", "type": kind, "created": int(time.time()), "livemode": True,
             "data": {"object": _charge(name), "previous_attributes": {"receipt_email": PERSON[0]}}}  # fmt: skip
    return json.dumps(event).encode()


async def _post(port: int, path: str, content: bytes, **headers: str) -> Reply:
    given = {"host": "x", "content-type": "application/json", "content-length": str(len(content))}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    async with connection(port) as (reader, writer):
        head = "".join(f"{name}: {value}\r\n" for name, value in given.items())
        writer.write(f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + content)
        return await read_reply(reader)


async def _get(port: int, path: str, token: str = "") -> Reply:
    async with connection(port) as (reader, writer):
        head = f"host: x\r\nauthorization: Bearer {token}\r\n" if token else "host: x\r\n"
        writer.write(f"GET {path} HTTP/1.1\r\n{head}\r\n".encode())
        return await read_reply(reader)


async def _send_everything(port: int) -> list[Reply]:
    path, secret = "/webhooks/stripe/main", SECRETS["WEBHOOK"]
    names = ("good", "html", "down", "bad", "weird", "other", "text", "cut", "slow", "closed")
    replies = []
    for name in names:
        content = _event(f"ch_{name}")
        replies.append(await _post(port, path, content, stripe_signature=_signed(content, secret)))
    assert [each.status for each in replies] == [200] * len(names)
    forged, broken = _event("ch_forged"), f'{{"email": "{PERSON[0]}"'.encode()
    token = SECRETS["API_TOKEN"]
    refused = [
        await _post(port, path, forged, stripe_signature=_signed(forged, "whsec_MARKEDother")),
        await _post(port, path, forged, stripe_signature=f"t=1,v1={PERSON[0]}"),
        await _post(port, path, forged, authorization=f"Bearer {token}x", cookie=f"a={PERSON[0]}"),
        await _post(port, path, broken, stripe_signature=_signed(broken, secret)),
        await _post(port, path, b"\xff" + broken, stripe_signature=_signed(b"\xff" + broken, secret)),
        await _post(port, path, forged, content_type=f"text/{PERSON[0]}"),
        await _post(port, f"/webhooks/stripe/{PERSON[0]}?who={PERSON[0]}", forged),
        await _post(port, path, PERSON[0].encode() * 60_000),
        await _post(port, "/webhooks/shopify/shop", broken, x_shopify_hmac_sha256="MARKEDhmac",
                    x_shopify_topic="orders/create", x_shopify_shop_domain=PERSON[0]),
        await _post(port, "/expectations", broken, authorization=f"Bearer {token}x"),
        await _get(port, "/api/v1/changes?after=nonsense", token),
        await _get(port, "/api/v1/changes", f"{token}x"),
    ]  # fmt: skip
    assert all(400 <= each.status < 500 for each in refused), [each.status for each in refused]
    return replies + refused


@contextmanager
def _heard() -> Iterator[io.StringIO]:
    """Everything that is logged, at its most talkative; by the libraries too."""
    heard = io.StringIO()
    root, talking = logging.getLogger(), logging.StreamHandler(heard)
    level = root.level
    log.configure(verbose=True, stream=heard, as_json=True)
    root.addHandler(talking)
    root.setLevel(logging.DEBUG)
    try:
        yield heard
    finally:
        root.removeHandler(talking)
        root.setLevel(level)
        structlog.reset_defaults()


def _found(words: str) -> list[str]:
    return [line[:400] for line in words.splitlines() if any(mark in line for mark in MARKS)]


@pytest.mark.long
def test_the_daemon_says_nothing_of_anybody(sqlite_ledger_url: str, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    said: list[str] = []

    def done() -> bool:
        with closing(open_ledger(sqlite_ledger_url)) as ledger, ledger.view() as view:
            tried = {each.ref.id for each in view.resources() if each.version or each.last_error}
            told = {each.account for each in view.open_findings()} | {gate.account for gate in view.gates()}
            return len(tried) >= 8 and told >= {"locked", "shop"} and bool(view.alerts())

    async def story() -> None:
        async with Script(_answer).serve() as url:
            path.write_text(CONFIG.format(ledger=sqlite_ledger_url, url=url), encoding="utf-8")
            config = load(path, SECRETS)
            daemon, stop = Daemon(config, load_accounts(config), SystemClock()), asyncio.Event()
            running = asyncio.create_task(daemon.run(stop))
            async with asyncio.timeout(180):
                await daemon.listening.wait()
                port = int((daemon.url or "").rpartition(":")[2])
                replies = await _send_everything(port)
                while not await asyncio.to_thread(done):  # noqa: ASYNC110  # what is waited for tells nobody
                    await asyncio.sleep(0.2)
                replies += [await _get(port, each) for each in ("/metrics", "/healthz", "/readyz")]
                said.extend(reply.body.decode("utf-8", "replace") for reply in replies)
                stop.set()
                await running

    with _heard() as heard:
        asyncio.run(story())
    words = heard.getvalue()
    assert words.count("\n") > 20
    assert "reconciler_readings_total" in said[-3]
    assert _found(words) == [], "logs"
    assert [found for each in said for found in _found(each)] == [], "answers and metrics"
    with closing(open_ledger(sqlite_ledger_url)) as ledger, ledger.view() as view:
        judged = [f"{each.text} {each.remedy}" for each in view.open_findings()]
        judged += [f"{each.text} {each.remedy}" for each in view.alerts()]
        judged += [each.last_error or "" for each in view.resources()]
        judged += [job.last_error or "" for job in view.jobs()] + [gate.text for gate in view.gates()]
        good = view.resource(ref("ch_good"))
        assert good is not None
        assert PERSON[1] in str(list(view.versions(good))[-1].body), "the search would find it"
    assert [found for each in judged for found in _found(each)] == [], "findings, alerts, errors that are kept"


def test_an_error_of_the_database_does_not_quote_what_it_was_given(ledger: Ledger) -> None:
    """Postgres quotes the failing row, SQLAlchemy the parameters."""

    def fail() -> None:
        with ledger.store.write() as tx:
            tx.run(
                text(
                    "INSERT INTO audit_log (seq, prev_hash, hash, actor, action, subject, detail, at)"
                    " VALUES (1, :x, :x, :x, :x, :x, :x, NULL)"
                ),
                {"x": PERSON[0]},
            )

    with pytest.raises(Exception, match=r"(?i)null") as raised:
        fail()
    assert _found("".join(traceback.format_exception(raised.value))) == []


@pytest.mark.parametrize("flags", [(), ("--verbose",)])
def test_commands_do_not_repeat_secrets_of_the_configuration(
    tmp_path: Path, flags: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c.toml"
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    texts = [
        '[ledger]\nurl = "postgresql+psycopg://op:MARKEDpass@127.0.0.1:1/x"\n',
        '[accounts.main]\nprovider = "stripe"\napi_key = "rk_live_MARKEDliteral"\n',
        f'[encryption]\nkeys = ["MARKEDliteral"]\n[ledger]\nurl = "sqlite:///{tmp_path}/x.db"\n',
        '[alerts]\nurls = ["json://op:MARKED@x"]\n',
        '[accounts.main]\nprovider = "stripe"\napi_key = "env:STRIPE_KEY"\nwebhook_secrets = "MARKEDliteral"\n',
    ]
    for each in texts:
        path.write_text(each, encoding="utf-8")
        for command in ("status", "check", "migrate"):
            ran = run_here("--config", str(path), command, *flags)
            assert _found(ran.out + ran.err) == [], (command, each)


def test_permissions_and_scopes_are_documented_as_they_are_asked_for() -> None:
    page = Path(__file__).parents[2] / "docs" / "operations" / "data-protection.md"
    rows = {
        tuple(cell.strip().strip("`") for cell in line.strip("|").split("|"))
        for line in page.read_text(encoding="utf-8").splitlines()
        if line.startswith(("| stripe |", "| shopify |"))
    }
    wanted = {("stripe", what, f"{name}: Read") for what, name in PERMISSIONS.items()}
    wanted |= {("shopify", name, route.scope or "none") for name, route in SHOPIFY_ROUTES.items()}
    assert rows == wanted
    assert set(PERMISSIONS) >= set(STRIPE_KINDS)
