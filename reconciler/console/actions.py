"""What people do in the console: every act is one form, one commit, and a name in the audit log."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import structlog
from starlette.responses import RedirectResponse, Response

from reconciler.asking import Question, answer_in
from reconciler.console import work
from reconciler.console.access import machines
from reconciler.console.asked import Asked
from reconciler.console.pages import dead_letters, jobs
from reconciler.console.query import address
from reconciler.console.refusals import BeingMade, NotThere
from reconciler.console.serving import Acting, Refused
from reconciler.errors import UsageError
from reconciler.ledger import Ledger, Mark, View, listing, people
from reconciler.ledger.breaks import LockPolicy, LockState, append_audit, locked_periods, period_locks
from reconciler.ledger.transaction import Transaction
from reconciler.model import Cause, ResourceRef
from reconciler.refs import checked
from reconciler.report import signoff
from reconciler.report.model import Report

log = structlog.get_logger(__name__)

_TEXT: Final = 1000
_BATCH: Final = 1000


def _to(path: str, **fields: str | None) -> Response:
    return RedirectResponse(address(path, **fields), 303)


def _words(acting: Acting, name: str) -> str:
    text = acting.form.text(name)
    if len(text) > _TEXT:
        raise UsageError(f"{name}: at most {_TEXT} characters")
    return text


# --- resources ------------------------------------------------------------------------------------


async def mark(acting: Acting) -> Response:
    desk = acting.room.desk
    refs = [checked(text, desk.accounts) for text in acting.form.texts("ref")]
    if not refs:
        raise UsageError("name a resource")
    await _mark(acting, refs, "mark")
    return _to("/console/resource", ref=str(refs[0]))


async def unmask(acting: Acting) -> Response:
    """Shows personal fields, once somebody stands behind it by name."""
    number = acting.form.whole("id", least=0, most=2**62)
    what = "" if number is not None else str(await acting.room.pen.read(lambda tx: _known(tx, acting.form.text("ref"))))
    subject = what or f"delivery {number}"
    now = acting.room.desk.clock.now()
    await acting.room.pen.write(
        lambda tx: append_audit(tx, actor=acting.by, action="unmask", subject=subject[:600], detail={}, at=now)
    )
    log.info("unmasked", user=acting.by)
    permit = acting.room.permit(acting.person, subject)
    if what:
        return _to("/console/resource", ref=what, unmasked=permit, as_of=acting.form.text("as_of") or None)
    return _to("/console/delivery", id=str(number), unmasked=permit, as_of=acting.form.text("as_of") or None)


def _known(tx: Transaction, text: str) -> ResourceRef:
    """Also of an account that is configured no more."""
    try:
        ref = ResourceRef.parse(text[:600])
    except ValueError as error:
        raise UsageError(str(error)) from None
    if View(tx).resource(ref) is None:
        raise NotThere(f"The ledger has never heard of {ref}.")
    return ref


async def retry_or_discard(acting: Acting) -> Response:
    """The second click: exactly the ones that the preview named."""
    act = acting.form.one_of("act", ("retry", "discard"), "retry")
    desk = acting.room.desk
    named = set(acting.form.texts("ref"))
    now = desk.clock.now()
    account, kind = acting.form.text("account"), acting.form.text("kind")
    every = acting.form.text("all") == "yes"

    def chosen(tx: Transaction) -> list[ResourceRef]:
        asked = Asked(acting.room, acting.person, "", acting.form, now, None, tx)
        found = dead_letters.wanted(asked, asked.view.dead_letters(limit=dead_letters.MOST))
        return [each.ref for each in found if every or str(each.ref) in named]

    refs = await acting.room.pen.read(chosen)
    if not refs:
        raise UsageError("none of these is a dead letter any more")
    if act == "retry":
        await _mark(acting, refs, "dead_letters.retry")
    else:
        for start in range(0, len(refs), _BATCH):
            await acting.room.pen.call(partial(_discard, refs[start : start + _BATCH], now))
        await _audit_refs(acting, refs, "dead_letters.discard")
    return _to("/console/dead-letters", account=account, kind=kind, done=f"{act} {len(refs)}")


async def _mark(acting: Acting, refs: Sequence[ResourceRef], action: str) -> None:
    now = acting.room.desk.clock.now()
    for start in range(0, len(refs), _BATCH):
        batch = [Mark(ref, Cause.MANUAL) for ref in refs[start : start + _BATCH]]
        await acting.room.pen.call(partial(_store_marks, batch, now))
    acting.room.pen.wake()
    await _audit_refs(acting, refs, action)


def _discard(refs: Sequence[ResourceRef], now: datetime, ledger: Ledger) -> None:
    with ledger.together():
        for ref in refs:
            ledger.discard(ref, now)


def _store_marks(marks: Sequence[Mark], now: datetime, ledger: Ledger) -> None:
    ledger.mark(marks, now)


async def _audit_refs(acting: Acting, refs: Sequence[ResourceRef], action: str) -> None:
    now = acting.room.desk.clock.now()
    detail = {"count": len(refs), "first": [str(each) for each in refs[:20]]}
    subject = str(refs[0]) if len(refs) == 1 else f"{len(refs)} resources"
    await acting.room.pen.write(
        lambda tx: append_audit(tx, actor=acting.by, action=action, subject=subject, detail=detail, at=now)
    )


# --- breaks ---------------------------------------------------------------------------------------


async def work_on_break(acting: Acting) -> Response:
    room, form, now = acting.room, acting.form, acting.room.desk.clock.now()
    question = Question(form.text("from") or None, form.text("to") or None)
    wanted = work.Work(
        act=form.one_of("act", work.ACTS),
        by=acting.by,
        words=_words(acting, "text"),
        owner=form.text("owner") if form.has("owner") else None,
        reason=form.text("reason"),
        difference=form.whole("difference", least=-(2**63), most=2**63),
        reviewer=form.text("reviewer"),
    )
    try:
        item = await room.pen.read(lambda tx: work.find(room, tx, question, acting.names["id"], patience_seconds=60))
    except BeingMade:
        text = "The report is still being made; try again in a moment. Nothing was changed."
        raise Refused(503, "A moment", text) from None
    await room.pen.write(lambda tx: work.keep(room, tx, item, wanted, now))
    room.reports.forget()
    return _to(f"/console/breaks/{item.break_id}", **_period(acting))


def _period(acting: Acting) -> dict[str, str | None]:
    return {"from": acting.form.text("from") or None, "to": acting.form.text("to") or None}


# --- signing --------------------------------------------------------------------------------------


async def sign(acting: Acting) -> Response:
    """One prepares, somebody else reviews and locks: the names are those that they logged in with."""
    room, form = acting.room, acting.form
    act = form.one_of("act", ("prepare", "lock", "reopen"))
    as_of = form.text("as_of")
    if not as_of:
        raise UsageError("a signature speaks for one instant; open the report as of it")
    question = Question(form.text("from") or None, form.text("to") or None, as_of=as_of)
    now, by, reason = room.desk.clock.now(), acting.by, _words(acting, "reason")
    policy = LockPolicy(form.one_of("policy", [each.value for each in LockPolicy], LockPolicy.ROLL_FORWARD.value))
    # Made anew and not taken from what is kept: what is signed must be what the ledger says at this moment.
    await room.pen.read(lambda tx: room.reports.params(tx, question))
    report = await room.pen.read(lambda tx: answer_in(tx, room.desk, question).report)
    if report.params.as_of > now:
        raise UsageError("as of lies in the future; a report is signed with what is known")

    def write(tx: Transaction) -> None:
        if act == "prepare":
            signoff.prepare(tx, report, by=by, now=now, policy=policy)
        elif act == "lock":
            signoff.lock(tx, report, by=by, now=now, policy=policy, override_reason=reason)
        elif act == "reopen":
            _reopen(tx, report, by=by, reason=reason, acting=acting)
        else:
            raise UsageError("say what to do: prepare, lock or reopen")

    await room.pen.write(write)
    room.reports.forget()
    return _to("/console/report", as_of=as_of, **_period(acting))


def _reopen(tx: Transaction, report: Report, *, by: str, reason: str, acting: Acting) -> None:
    now = acting.room.desk.clock.now()
    steps = period_locks(tx, report.params.accounts)
    standing = locked_periods(steps, max((step.as_of for step in steps), default=now))
    found = [each for each in standing if (each.start, each.end) == (report.header.start, report.header.end)]
    if not found:
        raise UsageError("this period is not locked, so there is nothing to reopen")
    for lock in found:
        assert lock.state is LockState.LOCKED
        signoff.reopen(tx, lock, by=by, reason=reason, now=now)


# --- sweeps and backfills -------------------------------------------------------------------------


async def hurry(acting: Acting) -> Response:
    """Makes a periodic job due now."""
    name, now = acting.form.text("job"), acting.room.desk.clock.now()
    known = await acting.room.pen.read(lambda tx: {each.name for each in listing.periodic_jobs(tx, now)})
    if name not in known:
        raise UsageError(f"there is no job {name[:60]!r}")
    await acting.room.pen.call(lambda ledger: ledger.hurry_job(name, now))
    await acting.room.pen.write(
        lambda tx: append_audit(tx, actor=acting.by, action="job.start", subject=name, detail={}, at=now)
    )
    return _to("/console/jobs", done="started")


async def start_backfill(acting: Acting) -> Response:
    room, now = acting.room, acting.room.desk.clock.now()

    def asked(tx: Transaction) -> Asked:
        return Asked(room, acting.person, "/console/jobs", acting.form, now, None, tx)

    request = await room.pen.read(lambda tx: jobs.request_of(asked(tx)))
    if acting.form.text("confirmed") != "yes":
        estimates = await room.backfills.preview(request)
        return await room.pen.read(lambda tx: acting.show(asked(tx), jobs.estimate_page(asked(tx), request, estimates)))
    running = room.backfills.start(request, acting.by)
    detail = {"since": request.since.isoformat(), "until": request.until and request.until.isoformat(),
              "accounts": sorted(request.accounts), "kinds": sorted(request.kinds)}  # fmt: skip
    await room.pen.write(
        lambda tx: append_audit(tx, actor=acting.by, action="backfill.start", subject=running.id, detail=detail, at=now)
    )
    return _to("/console/jobs")


async def cancel_backfill(acting: Acting) -> Response:
    name, now = acting.form.text("id"), acting.room.desk.clock.now()
    acting.room.backfills.cancel(name, acting.by)
    await acting.room.pen.write(
        lambda tx: append_audit(tx, actor=acting.by, action="backfill.cancel", subject=name, detail={}, at=now)
    )
    return _to("/console/jobs")


# --- people ---------------------------------------------------------------------------------------


async def change_password(acting: Acting) -> Response:
    """Ends every session of the user, this one too: whoever else was in is out."""
    room, now, form = acting.room, acting.room.desk.clock.now(), acting.form
    if form.text("fresh") != form.text("again"):
        raise UsageError("the new password was not typed the same twice")
    user = await room.pen.read(lambda tx: people.user(tx, acting.by))
    if user is None or not await room.pen.work(lambda: room.passwords.match(user.password_hash, form.text("old"))):
        raise Refused(403, "Wrong password", "That is not your password now. Nothing was changed.")
    fresh = await room.pen.work(lambda: room.passwords.hash(form.text("fresh"), name=acting.by))
    await room.pen.write(lambda tx: people.change_user(tx, acting.by, by=acting.by, now=now, password_hash=fresh))
    return _to("/console/login", done="password")


async def end_sessions(acting: Acting) -> Response:
    await acting.room.pen.write(lambda tx: people.end_sessions_of(tx, acting.by))
    return _to("/console/login", done="everywhere")


async def make_token(acting: Acting) -> Response:
    form, now = acting.form, acting.room.desk.clock.now()
    days = form.whole("days", least=1, most=3650)
    expires_at = None if days is None else now + timedelta(days=days)
    made = await acting.room.pen.write(
        lambda tx: machines.make(
            tx, form.text("name"), form.texts("scope"), expires_at=expires_at, by=acting.by, now=now
        )
    )
    return acting.told("token_made.html.j2", "Machine token", {"made": made, "name": form.text("name")})


async def revoke_token(acting: Acting) -> Response:
    now, token_id = acting.room.desk.clock.now(), acting.form.text("id")
    await acting.room.pen.write(lambda tx: people.revoke_machine_token(tx, token_id, by=acting.by, now=now))
    return _to("/console/tokens")
