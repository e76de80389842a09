"""Two real nodes on one Postgres, one of them on a machine whose clock is minutes ahead."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.databases import Postgres
from tests.operations.providers import API_KEY, WEBHOOK_SECRET, Providers
from tests.operations.running import Daemon, pay_and_wait
from tests.operations.test_reload import CONFIG

_BELOW_THE_TOLERANCE = 240.0
"""Seconds; Stripe's signatures are good for 300."""


@pytest.mark.long
def test_nodes_whose_clocks_differ_by_minutes_take_and_read_what_comes_to_either(
    postgres: Postgres, tmp_path: Path
) -> None:
    name = postgres.create(postgres.ledger_template())
    url = postgres.url(name)
    try:
        with Providers() as providers, ExitStack() as stack:
            (tmp_path / "key").write_text(API_KEY)
            (tmp_path / "secret").write_text(WEBHOOK_SECRET)
            address = f"http://127.0.0.1:{providers.inwards.port}/webhooks/stripe/main"
            providers.ask(lambda: providers.stripe.add_endpoint(address, secret=WEBHOOK_SECRET))
            nodes = []
            for each, ahead in (("right", None), ("ahead", _BELOW_THE_TOLERANCE)):
                config = tmp_path / f"{each}.toml"
                config.write_text(CONFIG.format(ledger=url, folder=tmp_path, stripe=providers.stripe_url))
                nodes.append(Daemon(config, ahead_seconds=ahead))
                stack.callback(nodes[-1].running.kill)

            for node in nodes * 3:
                providers.inwards.target = node.port
                pay_and_wait(providers, url)
            right, ahead_of_it = nodes
            assert right.stop() == 0
            pay_and_wait(providers, url)
            assert [line for node in nodes for line in node.lines if line["level"] in ("error", "critical")] == []
            assert ahead_of_it.stop() == 0
    finally:
        postgres.drop(name)
