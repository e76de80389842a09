"""What could not be read: named, with why; and, before anything wide, what a retry would do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from reconciler.console.access.personal import masked_text
from reconciler.console.asked import Asked, Page
from reconciler.console.drawing.tables import Cell, columns, in_memory
from reconciler.ledger import DeadLetter
from reconciler.ledger.people import Role
from reconciler.report.formats.columns import Kind

MOST: Final = 10_000
_LISTED: Final = 500


def dead_letters(asked: Asked) -> Page:
    with_discarded = asked.query.text("discarded") == "yes"
    letters = wanted(asked, asked.view.dead_letters(limit=MOST, with_discarded=with_discarded))
    may = asked.person.may(Role.OPERATOR) and asked.as_of is None
    table = in_memory(
        "dead_letters",
        "Dead letters",
        columns(
            "resource", "account", "kind", ("attempts", Kind.COUNT), ("dead_since", Kind.INSTANT), "error",
            ("discarded", Kind.INSTANT),
        ),
        (
            (
                Cell(str(each.ref), href=asked.resource(each.ref), code=True),
                each.ref.account,
                each.ref.kind,
                each.attempts,
                each.dead_at,
                masked_text(each.error or ""),
                each.discarded_at,
            )
            for each in letters
        ),
        asked.query,
        asked.here,
        empty="None. Every resource could be read, or is still being tried.",
        listed=_LISTED,
    )  # fmt: skip
    return Page(
        "dead_letters.html.j2",
        "Dead letters",
        {
            "may": may,
            "accounts": sorted(asked.desk.accounts),
            "kinds": sorted({kind for account in asked.desk.accounts.values() for kind in account.kinds}),
            "q": asked.query,
            "reasons": Counter(masked_text(each.error or "") for each in letters).most_common(5),
            "most": len(letters) >= MOST,
        },
        [table],
        active="dead",
    )


def wanted(asked: Asked, letters: Sequence[DeadLetter]) -> list[DeadLetter]:
    """Those that the filters of the page let pass."""
    account, kind = asked.query.text("account"), asked.query.text("kind")
    return [
        each
        for each in letters
        if account in ("", each.ref.account)
        and kind in ("", each.ref.kind)
        and (asked.as_of is None or each.dead_at <= asked.as_of)
    ]


def preview(asked: Asked) -> Page:
    """What would be read again. `all` means all that the filters let pass, at the moment of the second click."""
    act = asked.query.one_of("act", ("retry", "discard"), "retry")
    letters = wanted(asked, asked.view.dead_letters(limit=MOST))
    named = set(asked.query.texts("ref"))
    every = asked.query.text("all") == "yes"
    chosen = letters if every else [each for each in letters if str(each.ref) in named]
    by_kind = Counter((each.ref.account, each.ref.kind) for each in chosen)
    table = in_memory(
        "chosen",
        "By account and kind",
        columns("account", "kind", ("resources", Kind.COUNT)),
        ((account, kind, count) for (account, kind), count in sorted(by_kind.items())),
        asked.query,
        asked.here,
        empty="Nothing was chosen; go back and tick some, or take all.",
    )
    return Page(
        "dead_letters_preview.html.j2",
        "Retry dead letters" if act == "retry" else "Discard dead letters",
        {
            "act": act,
            "refs": [str(each.ref) for each in chosen],
            "every": every,
            "account": asked.query.text("account"),
            "kind": asked.query.text("kind"),
        },
        [table],
        active="dead",
    )
