"""References as people write them, checked against the configuration."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence

from reconciler.errors import UsageError
from reconciler.ledger import Ledger, View
from reconciler.loading import Account, PastAccount
from reconciler.model import ResourceRef

ID_CHARACTERS = 255
"""No provider has longer ones; what is longer was never an id."""


def checked(text: str, accounts: Mapping[str, Account], past: Sequence[PastAccount] = ()) -> ResourceRef:
    """Raises UsageError unless one of `accounts` (or of the `past`) is meant, and its provider has the kind."""
    try:
        ref = ResourceRef.parse(text)
    except ValueError as error:
        raise UsageError(str(error)) from None
    every: tuple[Account | PastAccount, ...] = (*accounts.values(), *past)
    known = {(each.name, each.provider_name): each for each in every}
    at = sorted(provider for name, provider in known if name == ref.account)
    if not at:
        names = {name for name, _ in known}
        raise UsageError(f"{ref}: no account {ref.account!r} is configured{_nearest(ref.account, names)}")
    account = known.get((ref.account, ref.provider))
    if account is None:
        raise UsageError(f"{ref}: account {ref.account!r} is at {' and '.join(at)}, not at {ref.provider}")
    if ref.kind not in account.kinds:
        raise UsageError(f"{ref}: {ref.provider} has no kind {ref.kind!r}{_nearest(ref.kind, account.kinds)}")
    if not ref.id.isprintable() or len(ref.id) > ID_CHARACTERS:
        raise UsageError(f"{text[:60]}...: an id has at most {ID_CHARACTERS} characters, and all of them printable")
    return ref


def require_configured(accounts: Iterable[str], kinds: Iterable[str], configured: Mapping[str, Account]) -> None:
    """Raises UsageError for a name that narrows something down to nothing, for ever: nobody would notice."""
    for name in accounts:
        if name not in configured:
            raise UsageError(f"no account {name[:60]!r} is configured{_nearest(name, configured)}")
    known = {kind for account in configured.values() for kind in account.kinds}
    for name in kinds:
        if name not in known:
            raise UsageError(f"there is no kind {name[:60]!r}{_nearest(name, known)}")


def require_known(
    ledger: Ledger, accounts: Collection[str], kinds: Collection[str], configured: Mapping[str, Account]
) -> None:
    """The same for questions about the past: what the ledger holds is known, also of what is configured no more."""
    try:
        require_configured(accounts, kinds, configured)
    except UsageError:
        with ledger.view() as view:
            require_held(view, accounts, kinds, configured)


def require_held(
    view: View, accounts: Collection[str], kinds: Collection[str], configured: Mapping[str, Account]
) -> None:
    """The same of one view."""
    held = view.held()
    past_accounts, past_kinds = {account for account, _ in held}, {kind for _, kind in held}
    require_configured(sorted(set(accounts) - past_accounts), sorted(set(kinds) - past_kinds), configured)


def _nearest(name: str, known: Iterable[str]) -> str:
    candidates = sorted(known)
    close = difflib.get_close_matches(name, candidates, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known are {', '.join(candidates)}" if candidates else "; add [accounts.NAME] to config.toml"
