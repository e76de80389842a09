"""The journal for Beancount 3, with a balance assertion after every day and at the end, exact to the minor unit."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import date, timedelta

from reconciler.errors import UsageError
from reconciler.report.formats.columns import Sheet
from reconciler.report.formats.dossier import Dossier
from reconciler.report.formats.journal import Assertion, JournalEntry, journal

_ACCOUNT = re.compile(r"(Assets|Liabilities|Equity|Income|Expenses)(:[A-Z0-9\u00c0-\U0010ffff][\w-]*)+")


def text(dossier: Dossier, sheets: Sequence[Sheet]) -> Iterable[str]:
    """Raises UsageError where the configured names are no accounts of Beancount's."""
    found = journal(dossier)
    wrong = [name for name in found.accounts if not _ACCOUNT.fullmatch(name) or "_" in name]
    if wrong:
        raise UsageError(
            f"[report.journal]: {wrong[0]!r} is no Beancount account; it begins with Assets, Liabilities, Equity,"
            " Income or Expenses, and each part after a colon with a capital"
        )
    opened = dossier.report.params.from_day - timedelta(days=1)
    yield f"; {found.reference}\n"
    yield f'option "title" "Reconciliation {dossier.report.params.from_day} to {dossier.report.params.to_day}"\n\n'
    for name in found.accounts:
        yield f"{opened} open {name}\n"
    for entry in found.entries:
        yield _entry(entry, found.reference)
        for each in entry.holds:
            yield _balance(entry.day + timedelta(days=1), each)
    yield "\n"
    for each in found.closing.holds:
        yield _balance(found.closing.day, each)


def _entry(entry: JournalEntry, reference: str) -> str:
    lines = [f'\n{entry.day} * "{_quoted(entry.narration)}"', f'  report: "{reference}"']
    for posting in entry.postings:
        lines.append(f"  {posting.account}  {posting.amount.text} {posting.amount.currency}")
        lines.append(f'    memo: "{_quoted(posting.memo)}"')
    return "\n".join(lines) + "\n"


def _balance(day: date, holds: Assertion) -> str:
    return f"{day} balance {holds.account}  {holds.amount.text} ~ 0 {holds.amount.currency}\n"


def _quoted(words: str) -> str:
    return " ".join(words.split()).replace("\\", "\\\\").replace('"', '\\"')
