"""Oneself: where one is logged in, and the password; and, for operators, the machine tokens of the HTTP API."""

from __future__ import annotations

from reconciler.console.access.machines import SCOPES
from reconciler.console.asked import Asked, Page
from reconciler.console.drawing.tables import Cell, columns, in_memory
from reconciler.ledger import people
from reconciler.ledger.people import Role
from reconciler.report.formats.columns import Kind


def me(asked: Asked) -> Page:
    own = asked.person.session
    sessions = people.sessions_of(asked.tx, asked.person.name, asked.now)
    table = in_memory(
        "sessions",
        "Where you are logged in",
        columns("from_address", ("since", Kind.INSTANT), ("last_used", Kind.INSTANT), ("ends", Kind.INSTANT), "this"),
        (
            (
                each.address,
                each.created_at,
                each.seen_at,
                each.expires_at,
                Cell("this browser", tone="good") if own and each.token_hash == own.token_hash else "",
            )
            for each in sessions
        ),
        asked.query,
        asked.here,
        empty="Nowhere: a proxy says who you are.",
    )
    return Page("me.html.j2", asked.person.name, {"has_password": asked.person.method == "password"}, [table])


def tokens(asked: Asked) -> Page:
    found = people.machine_tokens(asked.tx)
    table = in_memory(
        "tokens",
        "Machine tokens",
        columns(
            "name", "id", "scopes", "state", "created_by", ("created", Kind.INSTANT), ("last_used", Kind.INSTANT),
            ("expires", Kind.INSTANT),
        ),
        (
            (
                each.name,
                Cell(each.id, code=True),
                " ".join(sorted(each.scopes)),
                Cell("valid", tone="good")
                if each.valid(asked.now)
                else Cell("revoked" if each.revoked_at else "expired", tone="quiet"),
                each.created_by,
                each.created_at,
                each.used_at,
                each.expires_at,
            )
            for each in found
        ),
        asked.query,
        asked.here,
        empty="None. A program that uses the HTTP API needs one; its secret is shown once, when it is made.",
    )  # fmt: skip
    return Page(
        "tokens.html.j2",
        "Machine tokens",
        {
            "scopes": SCOPES,
            "valid": [each for each in found if each.valid(asked.now)],
            "may": asked.person.may(Role.OPERATOR),
        },
        [table],
    )
