"""`reconcile check`: the doctor. Every line says what is so and, where something is wrong, what to do."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import typer
from rich.console import RenderableType

from reconciler import log
from reconciler.app import REFUSED, least_room, transport_of
from reconciler.cli.opening import read_config
from reconciler.cli.options import BROKEN, DONE, UNPROVEN, options_of
from reconciler.cli.printing import print_json, print_page, table, talk
from reconciler.clock import SystemClock
from reconciler.config import Config, alert_addresses, api_tokens, expectation_tokens, unnamed_states
from reconciler.console.entrance import require_sound, require_users
from reconciler.desk import Desk
from reconciler.errors import (
    ConfigurationError,
    LedgerError,
    LedgerForbidden,
    ProviderError,
    SchemaMismatch,
    UsageError,
)
from reconciler.keyring import ledger_of, secrets_seal
from reconciler.ledger import Ledger, OpenFinding, Room
from reconciler.ledger.findings import HOLES, ROTATION_DUE
from reconciler.ledger.schema import current, forbidden_tables, newest, refuse_unknown
from reconciler.ledger.store import SQLITE_SAFE, sqlite_version
from reconciler.loading import Account, load_accounts, past_accounts, states_of
from reconciler.model import Severity
from reconciler.outbox.configured import keys_of, subscriptions_of
from reconciler.retry import describe
from reconciler.room import Least, shortage

PERMISSION = "permission_missing"

_NO_SECRET = (
    "no webhook secret is configured: every delivery is refused, and changes are seen by sweeps only",
    Severity.WARNING,
    "put the endpoint's signing secret into webhook_secrets, as env:NAME or file:/path",
)

_DAEMONS_OWN = HOLES | {ROTATION_DUE, REFUSED}


_NEWEST = 5
"""Of a kind: who holds the same shop twice holds what was made lately twice."""


@dataclass(frozen=True, slots=True)
class Checked:
    """One line of the doctor. `severity` None: all is well."""

    what: str
    text: str
    severity: Severity | None = None
    remedy: str = ""
    code: str = ""


def check(
    context: typer.Context,
    repair_webhooks: Annotated[
        bool, typer.Option("--repair-webhooks", help="Enable and complete the webhook subscriptions that were found.")
    ] = False,
) -> None:
    """Look at configuration, ledger, credentials, subscriptions and clock: what is wrong, what to do.

    Asks each provider about twenty small questions. Exit code 0 when all is well, 1 for errors, 3 when something
    cannot be looked at for lack of a permission, 2 when the configuration cannot be used.

    \b
    Examples:  reconcile check
               reconcile check --repair-webhooks
    """
    options = options_of(context)
    output = options.format_among("table", "json")
    log.configure(verbose=options.verbose)
    config = read_config(options)
    accounts = load_accounts(config)
    lines = [_configuration(config, accounts), *_deadlines(config, accounts), *_told(config), *_unusable(config)]
    lines += _ledger(config, accounts)
    lines = list(dict.fromkeys(lines))  # a key that cannot be read is met by both
    lines += asyncio.run(_accounts(config, accounts, repair=repair_webhooks))
    if output == "json":
        print_json({"checks": [_document(line) for line in lines]})
    else:
        print_page([_as_table(lines)])
        if any(line.severity is not None for line in lines):
            talk("what to do stands beside each line that is not ok")
    raise typer.Exit(_exit_code(lines))


_EVERY_KEY = (
    "put every key that is in use into encryption.keys, newest first; `reconcile rotate-keys` retires the others"
)
_MEND_IT = "mend what it names; until then `reconcile run` does not start, and no reload takes this file"
_READ_AT_THE_START: Sequence[tuple[str, Callable[[Config], object], str]] = (
    ("encryption", secrets_seal, _EVERY_KEY),
    ("alerts", alert_addresses, _MEND_IT),
    ("server", api_tokens, _MEND_IT),
    ("server", expectation_tokens, _MEND_IT),
    ("subscriptions", subscriptions_of, _MEND_IT),
    ("subscriptions", keys_of, _MEND_IT),
    ("console", require_sound, _MEND_IT),
)
_LET_IN = "`reconcile user add NAME --role operator`; until then `reconcile run` needs --only intake,worker"
_OTHER_SCHEMA = "upgrade this program, or let ledger.url name the ledger that is meant"
_REGRANT = "run docs/operations/postgres-roles.sql in its database, after each `reconcile migrate`"
_UNSEEN_DISK = Checked(
    "disk",
    "how much room the database has cannot be seen from here",
    Severity.INFO,
    "watch its server's disk there; reconciler_ledger_bytes in /metrics shows how fast the ledger grows",
)


# --- what is looked at ----------------------------------------------------------------------------


def _configuration(config: Config, accounts: Mapping[str, Account]) -> Checked:
    if not accounts:
        return Checked(
            "configuration", "no account is configured", Severity.ERROR, "add [accounts.NAME] to config.toml"
        )
    names = ", ".join(f"{name} ({account.provider.name})" for name, account in accounts.items())
    return Checked("configuration", f"readable; accounts: {names}")


def _deadlines(config: Config, accounts: Mapping[str, Account]) -> list[Checked]:
    """What waits for a state that may not exist looks at nothing, in the place of the rule that it replaced."""
    if not accounts:
        return []
    states = states_of(accounts)
    found = []
    for where, kind, state in unnamed_states(config, states):
        named = ", ".join(sorted(states[kind]))
        remedy = f"see how the provider spells it; states of a {kind} that are known here: {named or 'none'}"
        text = f"{where}: whether a {kind} can be {state!r} is not known here; if it cannot, this looks at nothing"
        found.append(Checked("deadlines", text, Severity.WARNING, remedy))
    return found


def _told(config: Config) -> list[Checked]:
    if config.alerts.urls:
        return []
    return [
        Checked(
            "alerts",
            "nobody is told when something is wrong; open alerts stand in `reconcile status` and the console only",
            Severity.INFO,
            "set alerts.urls, and alerts.heartbeat for a daemon that is gone (config.toml has examples)",
        )
    ]


def _unusable(config: Config) -> list[Checked]:
    """What `run` reads at its start and would refuse, whatever the ledger holds or whether it can be reached."""
    found: dict[str, Checked] = {}
    for what, read, remedy in _READ_AT_THE_START:
        try:
            read(config)
        except ConfigurationError as error:
            found.setdefault(str(error), Checked(what, str(error), Severity.ERROR, remedy))
    return [*found.values()]


def _ledger(config: Config, accounts: Mapping[str, Account]) -> list[Checked]:
    ledger = ledger_of(config)
    try:
        url = ledger.store.url.render_as_string()
        revision = current(ledger.store)
        refuse_unknown(revision)
        if forbidden := forbidden_tables(ledger.store):
            role = ledger.store.url.username or "this role"
            text = f"{', '.join(forbidden)} in {url} may not be read or written by {role}"
            return [Checked("ledger", text, Severity.ERROR, _REGRANT)]
        lines = [_schema(url, revision), *_sealing(ledger, holds_bodies=revision == newest())]
        if revision == newest():
            ledger.tick()  # a full disk and a database that only reads are found by writing
            lines += _console(Desk(config, accounts, ledger, SystemClock()))
            lines += [_open(each) for each in _open_findings(ledger)]
            lines += _unnamed(ledger, accounts)
            lines += _not_forgotten(ledger, accounts)
            lines += _doubled(ledger, accounts)
        if not ledger.store.dialect.is_postgres:
            lines.append(_sqlite())
        return [*lines, *_room(ledger.store.room(), least_room(config))]
    except LedgerForbidden as error:
        return [Checked("ledger", str(error), Severity.ERROR, _REGRANT)]
    except SchemaMismatch as error:
        return [Checked("ledger", str(error), Severity.ERROR, _OTHER_SCHEMA)]
    except LedgerError as error:
        remedy = "see that its database runs, can be reached, has room on its disk, and that ledger.url is right"
        room = ledger.store.room()
        return [
            Checked("ledger", str(error), Severity.ERROR, remedy),
            *([] if room is None else _room(room, least_room(config))),
        ]
    finally:
        ledger.close()


def _schema(url: str, revision: str | None) -> Checked:
    if revision is None:
        return Checked("ledger", f"{url} is empty; `reconcile run` creates the schema")
    if revision == newest():
        return Checked("ledger", f"{url}, schema {revision}")
    return Checked(
        "ledger",
        f"{url} has schema {revision}, this program needs {newest()}",
        Severity.ERROR,
        "stop every node, take a backup, run `reconcile migrate`",
    )


def _sealing(ledger: Ledger, *, holds_bodies: bool) -> list[Checked]:
    """Whether the keys can be read, and none is missing that a body needs."""
    try:
        if holds_bodies:
            ledger.require_keys()
        seal = ledger.store.packing.seal
    except ConfigurationError as error:
        return [Checked("encryption", str(error), Severity.ERROR, _EVERY_KEY)]
    if seal is None:
        return []
    return [Checked("encryption", f"bodies are sealed with the key {seal.first}; at hand: {', '.join(seal.ids)}")]


def _console(desk: Desk) -> list[Checked]:
    """Where the console may not be served. A note: a node may be meant to run without it."""
    try:
        require_users(desk)
    except ConfigurationError:
        return []  # said already, and an error
    except UsageError as error:
        return [Checked("console", str(error), Severity.INFO, _LET_IN)]
    return []


def _open_findings(ledger: Ledger) -> list[OpenFinding]:
    """What only the daemon knows; what providers can be asked is asked."""
    with ledger.view() as view:
        return [each for each in view.open_findings() if each.code in _DAEMONS_OWN]


def _open(found: OpenFinding) -> Checked:
    return Checked(found.account or "daemon", found.text, Severity(found.severity), found.remedy, found.code)


def _unnamed(ledger: Ledger, accounts: Mapping[str, Account]) -> list[Checked]:
    """A note: an account may be given up, and its past stays. One that was renamed leaves its locks behind."""
    held: Counter[str] = Counter()
    with ledger.view() as view:
        for each in view.holdings():
            held[each.account] += each.total
    return [
        Checked(
            name,
            f"the ledger holds {total:,} resources of an account {name}, and none is configured under this name",
            Severity.INFO,
            f"no report counts them; if it was renamed, give it its name back: [accounts.{name}]",
        )
        for name, total in sorted(held.items())
        if name not in accounts
    ]


def _not_forgotten(ledger: Ledger, accounts: Mapping[str, Account]) -> list[Checked]:
    """What was asked for before the account was taken out: daemons forget in the accounts that they have. To name what
    was asked for once more forgets nothing else."""
    found = []
    gone = defaultdict(list)  # a name may have stood for accounts at several providers
    for each in past_accounts(ledger, accounts):
        if each.name not in accounts:
            gone[each.name].append(each)
    for name, past in gone.items():
        asked = [each.what for each in ledger.redactions.pending(name)]
        if not asked:
            continue
        if all(each.kind for each in asked):
            there = next((each for each in past if each.provider and asked[0].kind in each.kinds), past[0])
            who, named = "somebody", f"{there.provider_name}/{name}/{asked[0].kind}/{asked[0].id}"
            remedy = (
                f"run `reconcile redact {named}`: it was asked for already, and all that was is carried out with it"
            )
        else:
            who, remedy = (
                "everybody",
                f"run `reconcile redact` with any reference of {name}: all of it is to be forgotten",
            )
        text = f"{who} of account {name} is to be forgotten, and no daemon does it while it is not configured"
        found.append(Checked(name, text, Severity.ERROR, remedy))
    return found


def _doubled(ledger: Ledger, accounts: Mapping[str, Account]) -> list[Checked]:
    """Two keys of one account at the provider, configured as two accounts: what is known of both shows it."""
    found, done = [], set[str]()
    for name, account in accounts.items():
        done.add(name)
        others = [
            each.name for each in accounts.values() if each.provider is account.provider and each.name not in done
        ]
        lasting = [kind.name for kind in account.kinds.values() if kind.singleton is None and not kind.deletable]
        for other, ref in sorted(ledger.shared(name, others, lasting, each=_NEWEST).items()):
            found.append(
                Checked(
                    other,
                    f"{other} and {name} hold the same {ref.kind} {ref.id}: every figure is counted twice",
                    Severity.ERROR,
                    f"they are one account at {account.provider.name}; take one of them out of the configuration",
                )
            )
    return found


def _room(room: Room | None, least: Least) -> list[Checked]:
    """Before it is full: afterwards every delivery is refused."""
    if room is None:
        return [_UNSEEN_DISK]
    found = [Checked("disk", each.text, each.severity, each.remedy, each.code) for each in shortage(room, least)]
    return found or [Checked("disk", str(room))]


def _sqlite() -> Checked:
    version, safe = (".".join(map(str, each)) for each in (sqlite_version(), SQLITE_SAFE))
    if sqlite_version() >= SQLITE_SAFE:
        return Checked("sqlite", f"version {version}")
    return Checked(
        "sqlite",
        f"version {version} has the WAL-reset bug; our processes keep clear of it with a file lock",
        Severity.INFO,
        f"let no other program write to the ledger file (litestream, sqlite3), or use SQLite {safe} or newer",
    )


async def _accounts(config: Config, accounts: Mapping[str, Account], *, repair: bool) -> list[Checked]:
    transport = transport_of(config)
    lines: list[Checked] = []
    try:
        for name, account in accounts.items():
            if not account.settings.webhook_secrets:
                lines.append(Checked(name, *_NO_SECRET))
            provider = account.connect(transport, SystemClock())
            try:
                if repair:
                    lines += [Checked(name, done) for done in await provider.repair_subscriptions()]
                found = await provider.findings()
            except ProviderError as error:
                remedy = "see that the provider can be reached from here and that the key is right, then check again"
                lines.append(Checked(name, describe(error), Severity.ERROR, remedy))
                continue
            lines += [Checked(name, each.text, each.severity, each.remedy, each.code) for each in found]
            if not found:
                lines.append(Checked(name, "credentials, permissions, subscriptions and clock are as they should be"))
    finally:
        await transport.aclose()
    return lines


# --- how it is said -------------------------------------------------------------------------------

_WORDS: Mapping[Severity | None, str] = {
    None: "ok",
    Severity.INFO: "note",
    Severity.WARNING: "warning",
    Severity.ERROR: "ERROR",
}


def _as_table(lines: Sequence[Checked]) -> RenderableType:
    return table(
        "reconcile check",
        ("", "what", "finding", "what to do"),
        [(_WORDS[line.severity], line.what, line.text, line.remedy) for line in lines],
        empty="nothing was checked",
    )


def _document(line: Checked) -> dict[str, object]:
    return {
        "what": line.what,
        "ok": line.severity is None,
        "severity": None if line.severity is None else line.severity.value,
        "code": line.code or None,
        "text": line.text,
        "remedy": line.remedy or None,
    }


def _exit_code(lines: Sequence[Checked]) -> int:
    wrong = [line for line in lines if line.severity is Severity.ERROR and line.code != PERMISSION]
    if wrong:
        return BROKEN
    return UNPROVEN if any(line.code == PERMISSION for line in lines) else DONE
