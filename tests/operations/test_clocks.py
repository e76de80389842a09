"""Two real nodes on one Postgres, one of them on a machine whose clock is minutes ahead."""

from __future__ import annotations

from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from reconciler.ledger import open_ledger
from reconciler.model import ResourceRef, State
from tests.databases import Postgres
from tests.operations.providers import API_KEY, WEBHOOK_SECRET, Providers
from tests.operations.running import Daemon, until
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

            def told() -> None:
                charge = providers.act("payments.pay", amount=2500)["latest_charge"]

                def read() -> bool:
                    with closing(open_ledger(url)) as ledger, ledger.view() as view:
                        found = view.resource(ResourceRef("stripe", "main", "charge", charge))
                        return found is not None and found.state is State.PRESENT

                until(read, f"{charge} is read")

            for node in nodes * 3:
                providers.inwards.target = node.port
                told()
            right, ahead_of_it = nodes
            assert right.stop() == 0
            told()
            assert [line for node in nodes for line in node.lines if line["level"] in ("error", "critical")] == []
            assert ahead_of_it.stop() == 0
    finally:
        postgres.drop(name)
