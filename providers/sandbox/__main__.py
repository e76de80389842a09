"""`python -m providers.sandbox`: the look-alike alone. One JSON line on stdout says where it is; SIGTERM ends it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import secrets
import signal
import sys
from datetime import UTC, datetime

import orjson

from providers.sandbox.day import CURRENCIES, pace_of, plan_day, play
from providers.sandbox.faults import FaultPlan
from providers.sandbox.keys import ApiKey
from providers.sandbox.limits import Limits
from providers.sandbox.orders import with_orders
from providers.sandbox.sender import RetrySchedule
from providers.sandbox.server import DEFAULT_KEY, SandboxServer
from providers.sandbox.shopify.bucket import SECONDS_TO_EMPTY, BucketLimit
from providers.sandbox.shopify.sending import CLASSIC, EVENTS, ShopRetries
from providers.sandbox.shopify.server import DEFAULT_TOKEN, ShopServer
from providers.sandbox.shopify.shop import Shop
from providers.sandbox.shopify.topics import TOPICS
from providers.sandbox.truth import Pace
from providers.sandbox.world import World
from reconciler.clock import Clock, ManualClock, SystemClock
from reconciler.errors import UsageError


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m providers.sandbox", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: a free one (default)")
    parser.add_argument("--seed", type=int, default=7, help="same seed, same shop (default 7)")
    parser.add_argument("--api-key", default=DEFAULT_KEY)
    parser.add_argument("--currency", default="usd", help="the account's own currency")
    parser.add_argument("--webhook", action="append", default=[], metavar="URL", help="may be given several times")
    parser.add_argument("--secret", help="signing secret of the webhooks; one is made when it is left out")
    parser.add_argument("--thin", action="store_true", help="send thin events instead of snapshots")
    parser.add_argument("--retry-speed", type=float, default=1.0, help="how much faster than Stripe to retry")
    parser.add_argument("--no-limits", action="store_true", help="answer as fast as possible; no 429")
    parser.add_argument("--faults", default="{}", metavar="JSON", help='as in {"drop": 0.05, "duplicate": 0.1}')
    parser.add_argument("--virtual-clock", metavar="ISO", help="start here and move by POST /_sandbox/clock only")
    parser.add_argument(
        "--day", type=int, default=0, metavar="PAYMENTS", help="play a shop's day with so many payments"
    )
    parser.add_argument("--day-seconds", type=float, default=60.0, help="how long that day lasts (default 60)")
    parser.add_argument("--shop", metavar="DOMAIN", help="a Shopify shop besides, as in demo.myshopify.com")
    parser.add_argument("--shop-port", type=int, default=0, help="0: a free one (default)")
    parser.add_argument("--shop-token", default=DEFAULT_TOKEN, help="the app's access token")
    parser.add_argument("--shop-secret", help="the app's client secret; one is made when it is left out")
    parser.add_argument("--shop-webhook", action="append", default=[], metavar="URL", help="subscribed to every topic")
    parser.add_argument("--shop-faults", default="{}", metavar="JSON", help="as --faults, for the shop")
    parser.add_argument(
        "--shop-bucket", type=int, default=40, help="40 is a standard plan's, 400 Plus has (default 40)"
    )
    parser.add_argument("--no-shopify-payments", action="store_true", help="the shop takes its payments elsewhere")
    return parser


async def _serve(options: argparse.Namespace) -> None:
    clock = SystemClock() if options.virtual_clock is None else ManualClock(_instant(options.virtual_clock))
    pace = pace_of(options.day_seconds) if options.day else Pace()
    world = World(seed=options.seed, clock=clock, currency=options.currency, pace=pace)
    for currency in CURRENCIES:
        world.funds.open_balance(currency)
    secret = options.secret or f"whsec_{secrets.token_hex(16)}"
    endpoints = [
        world.endpoints.create(url, secret=secret, events=("*",), thin=options.thin)["id"] for url in options.webhook
    ]
    shop = _shop(options, clock)
    server = SandboxServer(
        world, keys=(ApiKey(options.api_key),), limits=None if options.no_limits else Limits(),
        faults=FaultPlan.parse(orjson.loads(options.faults)), retries=RetrySchedule(speed=options.retry_speed),
        shop=None if shop is None else shop.shop, host=options.host, port=options.port,
    )  # fmt: skip
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with server, shop or contextlib.nullcontext():
        ready = {"url": server.url, "api_key": server.api_key, "account": world.account, "secret": secret,
                 "endpoints": endpoints, "seed": options.seed,
                 "shop": None if shop is None else _ready(shop)}  # fmt: skip
        sys.stdout.write(orjson.dumps(ready).decode() + "\n")
        sys.stdout.flush()
        playing = None
        if options.day:
            day = plan_day(options.seed, payments=options.day)
            if shop is not None:
                day = with_orders(day)
            playing = asyncio.create_task(play(day, world, seconds=options.day_seconds, shop=server.shop))
        await stop.wait()
        if playing is not None:
            playing.cancel()


def _shop(options: argparse.Namespace, clock: Clock) -> ShopServer | None:
    if options.shop is None:
        return None
    shop = Shop(seed=options.seed, clock=clock, domain=options.shop, payments=not options.no_shopify_payments)
    for url in options.shop_webhook:
        for topic in TOPICS:
            shop.subscribe(topic, url)
    return ShopServer(
        shop, token=options.shop_token, secret=options.shop_secret or f"shpss_{secrets.token_hex(16)}",
        bucket=None if options.no_limits else BucketLimit(options.shop_bucket, options.shop_bucket / SECONDS_TO_EMPTY),
        faults=FaultPlan.parse(orjson.loads(options.shop_faults)), retries=ShopRetries(speed=options.retry_speed),
        families=(CLASSIC, EVENTS), host=options.host, port=options.shop_port,
    )  # fmt: skip


def _ready(server: ShopServer) -> dict[str, str]:
    return {"url": server.url, "domain": server.shop.domain, "access_token": server.token, "secret": server.secret}


def _instant(text: str) -> datetime:
    instant = datetime.fromisoformat(text)
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def main() -> int:
    """0 after SIGTERM or SIGINT; 2 for arguments that cannot be used."""
    options = _arguments().parse_args()
    # A broken-off answer is a fault that was asked for; the server would report each as an error of its own.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    try:
        asyncio.run(_serve(options))
    except (UsageError, ValueError, OSError) as wrong:
        sys.stderr.write(f"sandbox: {wrong}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
