"""What the daemon keeps ready for reports, done by a command where it is behind; it says so where that takes long."""

from __future__ import annotations

from collections import Counter

from reconciler.asking import terms_of
from reconciler.cli.printing import talk
from reconciler.desk import Desk
from reconciler.ledger import aside
from reconciler.report.aside import SettingAside, Step

_EVERY_SECONDS = 10.0


def prepare(at: Desk) -> None:
    """Raises LedgerUnavailable where the ledger cannot be written."""
    done: Counter[str] = Counter()
    began = at.clock.monotonic()
    told_at = began

    def tell(step: Step) -> None:
        nonlocal told_at
        done[step.what] += step.count
        now = at.clock.monotonic()
        if now - told_at < _EVERY_SECONDS:
            return
        if told_at == began:
            talk(
                "Making the ledger ready for its reports: what no report has read yet is read, once. After an upgrade"
                " that reads it in another way that is all of it. A running daemon does the same, and whoever is first"
                " spares the other; you may stop this at any time."
            )
        told_at = now
        left = at.ledger.looked(aside.behind)
        talk(f"{', '.join(f'{count:,} {what}' for what, count in done.items())}; {left:,} versions left to read")

    setting = SettingAside(terms_of(at), at.config.report.gateways)
    setting.run(at.ledger, told=tell, now=at.clock.now())
    if setting.is_left_to_newer(at.ledger):
        talk(
            "A newer version of this program keeps this ledger ready for its reports. This one leaves that alone and"
            " reads every body: the report is the same, and takes longer. Upgrade here; to stay with this version for"
            " good, see docs/decisions/0108."
        )
    elif setting.is_left_to_others(at.ledger):
        talk(
            "A node with other accounts, or other gateways, keeps this ledger ready for its reports. This command"
            " leaves that alone and reads every body: the report is the same, and takes longer. Give it the node's"
            " configuration, and --account, to ask for less."
        )
