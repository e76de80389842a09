"""The accounts: what each may see, what is subscribed, which version is spoken, and how long the reads will last."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from pydantic import SecretStr

from reconciler.console.asked import Asked, Page
from reconciler.console.drawing.tables import Cell, Line, Table, columns, in_memory
from reconciler.console.refusals import NotThere
from reconciler.loading import Account
from reconciler.model import Priority
from reconciler.report.formats.columns import Kind
from reconciler.status import Status

_VERSIONS: Final = ("stripe_version", "api_version")


def accounts(asked: Asked) -> Page:
    status = asked.room.statuses.get()

    def lines() -> Iterator[Line]:
        for each in asked.desk.accounts.values():
            findings = [] if status is None else [one for one in status.findings if one.account == each.name]
            gates = [] if status is None else [one for one in status.gates if one.account == each.name]
            held = [] if status is None else [one for one in status.kinds if one.account == each.name]
            yield (
                Cell(each.name, href=asked.link("/console/account", name=each.name)),
                each.provider.name,
                _version(each),
                sum(one.total for one in held),
                sum(one.dirty for one in held),
                Cell(len(findings), tone="warn" if findings else ""),
                Cell(", ".join(sorted({one.reason for one in gates})) or "open", tone="bad" if gates else "good"),
            )

    table = in_memory(
        "accounts",
        "Accounts",
        columns(
            "account",
            "provider",
            "api_version",
            ("resources", Kind.COUNT),
            ("dirty", Kind.COUNT),
            ("findings", Kind.COUNT),
            "reads",
        ),
        lines(),
        asked.query,
        asked.here,
        empty="No account is configured; add [accounts.NAME] to config.toml.",
    )
    return Page("accounts.html.j2", "Accounts", {}, [table], refreshes=True, active="accounts")


def account(asked: Asked) -> Page:
    name = asked.query.text("name")
    found = asked.desk.accounts.get(name)
    if found is None:
        raise NotThere(f"No account {name[:60]!r} is configured.")
    status = asked.room.statuses.get()
    budget = None if status is None else next((each for each in status.budgets if each.account == name), None)
    return Page(
        "account.html.j2",
        f"Account {name}",
        {
            "account": found,
            "version": _version(found),
            "budget": budget,
            "priorities": []
            if budget is None
            else [(Priority(each).name.lower(), count) for each, count in budget.by_priority.items()],
            "settings": _settings(found),
            "webhook": f"/webhooks/{found.provider.name}/{found.name}",
            "watched": None
            if status is None
            else next((each for each in status.jobs if each.name == f"watch/{name}"), None),
        },
        [_findings(asked, status, name), _gates(asked, status, name), _kinds(asked, status, found)],
        refreshes=True,
        active="accounts",
    )


def _version(account: Account) -> str:
    return next((str(getattr(account.settings, name)) for name in _VERSIONS if hasattr(account.settings, name)), "")


def _settings(account: Account) -> list[tuple[str, str]]:
    """What the configuration says, secrets left out altogether."""
    return [
        (name, str(value))
        for name, value in account.settings.model_dump().items()
        if value not in (None, "", (), []) and not _secret(value) and name not in _VERSIONS and name != "provider"
    ]


def _secret(value: Any) -> bool:
    return isinstance(value, SecretStr) or (
        isinstance(value, list | tuple) and any(isinstance(each, SecretStr) for each in value)
    )


def _findings(asked: Asked, status: Status | None, name: str) -> Table:
    tones = {"error": "bad", "warning": "warn", "info": ""}
    found = [] if status is None else [each for each in status.findings if each.account == name]
    return in_memory(
        "findings",
        "Permissions, subscriptions, versions: what was found",
        columns("severity", "what", "what_to_do", ("since", Kind.INSTANT)),
        (
            (Cell(each.severity, tone=tones.get(each.severity, "")), each.text, each.remedy, each.first_seen_at)
            for each in found
        ),
        asked.query,
        asked.here,
        empty="Nothing is wrong: permissions, subscriptions and versions are as they should be.",
    )


def _gates(asked: Asked, status: Status | None, name: str) -> Table:
    found = [] if status is None else [each for each in status.gates if each.account == name]
    return in_memory(
        "gates",
        "Not read for now",
        columns("kind", "reason", "text", ("since", Kind.INSTANT), ("asked_again", Kind.INSTANT)),
        ((each.kind or "all kinds", Cell(each.reason, tone="bad"), each.text, each.opened_at, each.until)
         for each in found),
        asked.query,
        asked.here,
        empty="Nothing: everything may be read.",
    )  # fmt: skip


def _kinds(asked: Asked, status: Status | None, account: Account) -> Table:
    held = {} if status is None else {each.kind: each for each in status.kinds if each.account == account.name}
    covered = {} if status is None else {each.kind: each for each in status.coverage if each.account == account.name}

    def lines() -> Iterator[Line]:
        for kind in account.kinds.values():
            holding, reach = held.get(kind.name), covered.get(kind.name)
            yield (
                Cell(kind.name, href=asked.link("/console/resources", account=account.name, kind=kind.name)),
                0 if holding is None else holding.total,
                Cell(0 if holding is None else holding.dirty, tone="warn" if holding and holding.dirty else ""),
                Cell(0 if holding is None else holding.dead, tone="bad" if holding and holding.dead else ""),
                0 if holding is None else holding.deleted,
                None if reach is None else reach.through,
                Cell(0 if reach is None else len(reach.gaps), tone="warn" if reach and reach.gaps else ""),
                "" if reach is None or not reach.gaps else reach.gaps[0].reason,
            )

    return in_memory(
        "kinds",
        "Kinds",
        columns(
            "kind",
            ("resources", Kind.COUNT),
            ("dirty", Kind.COUNT),
            ("dead", Kind.COUNT),
            ("deleted", Kind.COUNT),
            ("looked_at_through", Kind.INSTANT),
            ("gaps", Kind.COUNT),
            "reason",
        ),
        lines(),
        asked.query,
        asked.here,
        empty="This provider has no kinds.",
    )
