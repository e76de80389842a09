"""`reconcile sandbox`."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import orjson
import typer

from reconciler.cli.options import options_of
from reconciler.cli.printing import talk
from reconciler.demo import Sandbox
from reconciler.errors import UsageError
from reconciler.transport import HttpTransport

_STOP_SECONDS = 10.0
_PAUSE_SECONDS = 2.0


def sandbox(
    context: typer.Context,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: one that the system picks.")] = 0,
    seed: Annotated[int, typer.Option(help="Same seed, same shop.")] = 7,
    webhook: Annotated[
        str | None, typer.Option(help="Where your receiver listens, e.g. http://127.0.0.1:8080/webhooks/stripe/main.")
    ] = None,
    secret: Annotated[str | None, typer.Option(help="The webhooks' signing secret; else one is made.")] = None,
    send_test_events: Annotated[
        int, typer.Option(help="Make so many payments, two seconds apart, and say how your receiver answered.", min=0)
    ] = 0,
    shop: Annotated[
        str | None, typer.Option(help="A Shopify shop besides, e.g. example.myshopify.com.", metavar="DOMAIN")
    ] = None,
    shop_webhook: Annotated[
        str | None, typer.Option(help="Where your receiver listens for it, e.g. .../webhooks/shopify/shop.")
    ] = None,
    faults: Annotated[
        str, typer.Option(help='What shall go wrong, as in {"drop": 0.05, "duplicate": 0.1}.', metavar="JSON")
    ] = "{}",
) -> None:
    """A look-alike of Stripe to build against, with nothing but itself: objects, lists, limits, signed webhooks.

    It runs until Ctrl-C or SIGTERM. The first line on stdout is JSON with its url, api_key and secret. With --shop
    there is one of Shopify besides, and the JSON's `shop` has its url, domain, access_token and secret.

    \b
    Examples:  reconcile sandbox --port 12111 --webhook http://127.0.0.1:8080/webhooks/stripe/main --secret whsec_mine
               reconcile sandbox --webhook http://127.0.0.1:8080/webhooks/stripe/main --send-test-events 5
               reconcile sandbox --shop example.myshopify.com --shop-webhook http://127.0.0.1:8080/webhooks/shopify/shop
    """
    options = options_of(context)
    as_json = options.format_among("table", "json") == "json"
    if send_test_events and webhook is None:
        raise UsageError("--send-test-events needs --webhook URL: the address of your receiver")
    command = [sys.executable, "-m", "providers.sandbox", "--port", str(port), "--seed", str(seed), "--faults", faults]
    command += ["--webhook", webhook] if webhook else []
    command += ["--secret", secret] if secret else []
    if shop_webhook is not None and shop is None:
        raise UsageError("--shop-webhook needs --shop DOMAIN: which shop is to be played")
    command += ["--shop", shop] if shop else []
    command += ["--shop-webhook", shop_webhook] if shop_webhook else []
    with _running(command) as child:
        line = _first_line(child)
        ready = orjson.loads(line)
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
        if not as_json:
            talk(_guide(ready, webhook))
            if ready["shop"] is not None:
                talk(_shop_guide(ready["shop"]))
        if send_test_events:
            asyncio.run(_send(ready["url"], send_test_events))
        child.wait()


@contextlib.contextmanager
def _running(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """The sandbox's process, ended by its pid on every way out; a signal to us is a clean end."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    # A session of its own, so that Ctrl-C reaches us alone and we end it in order.
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)  # noqa: S603 - our own module
    try:
        yield child
    except KeyboardInterrupt:
        talk("stopped")
        raise typer.Exit(0) from None
    finally:
        child.terminate()
        try:
            child.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        signal.signal(signal.SIGTERM, before)


def _first_line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    line = child.stdout.readline().strip()
    if not line:
        child.wait()
        raise UsageError("the sandbox could not start; it says above why")
    return line


async def _send(url: str, events: int) -> None:
    transport = HttpTransport(trust_env=False)
    try:
        for number in range(events):
            if number:
                await asyncio.sleep(_PAUSE_SECONDS)
            talk(_sent(await Sandbox(url, transport).send_test_event()))
    finally:
        await transport.aclose()


def _sent(told: Any) -> str:
    lines = [f"a payment, {told['object']}:"]
    for each in told["deliveries"]:
        last = each["attempts"][-1] if each["attempts"] else {"status": None, "error": "not sent"}
        answer = last["status"] if last["status"] is not None else last["error"]
        lines.append(f"  {each['type']}: {each['standing']}, answer {answer}")
    return "\n".join(lines)


def _guide(ready: Any, webhook: str | None) -> str:
    url = ready["url"]
    where = (
        f"Events go to {webhook}, signed."
        if webhook
        else "No events are sent; give --webhook http://127.0.0.1:8080/webhooks/stripe/main for that."
    )
    return f"""\
The sandbox is at {url}; Ctrl-C ends it. {where}
In config.toml:
  [accounts.main]
  provider = "stripe"
  api_key = "env:STRIPE_API_KEY"
  webhook_secrets = ["env:STRIPE_WEBHOOK_SECRET"]
  base_url = "{url}"
In the daemon's environment:
  export STRIPE_API_KEY={ready["api_key"]} STRIPE_WEBHOOK_SECRET={ready["secret"]}
Make something happen, and look:
  curl -X POST {url}/_sandbox/send_test_event
  curl {url}/_sandbox/truth
Everything else: providers/sandbox/README.md"""


def _shop_guide(shop: Any) -> str:
    return f"""\

The shop is at {shop["url"]}. In config.toml:
  [accounts.shop]
  provider = "shopify"
  shop = "{shop["domain"]}"
  access_token = "env:SHOPIFY_ACCESS_TOKEN"
  webhook_secrets = ["env:SHOPIFY_CLIENT_SECRET"]
  base_url = "{shop["url"]}"
In the daemon's environment:
  export SHOPIFY_ACCESS_TOKEN={shop["access_token"]} SHOPIFY_CLIENT_SECRET={shop["secret"]}
Make something happen, and look:
  curl -X POST {shop["url"]}/_sandbox/actions -d '{{"action": "place_order"}}'
  curl {shop["url"]}/_sandbox/truth"""
