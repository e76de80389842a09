"""What people do with subscriptions: pause, resume, test, retry, and replay behind a preview."""

from __future__ import annotations

from starlette.responses import RedirectResponse, Response

from reconciler.console.pages.subscriptions import replay_of
from reconciler.console.query import address
from reconciler.console.serving import Acting
from reconciler.errors import UsageError


async def act(acting: Acting) -> Response:
    subscriptions, by = acting.room.subscriptions, acting.by
    there = await subscriptions.find(acting.form.text("name"))
    wanted = acting.form.one_of("act", ("pause", "resume", "test", "retry"))
    count: int | None = None
    match wanted:
        case "pause":
            await subscriptions.pause(there, by)
        case "resume":
            await subscriptions.resume(there, by)
        case "test":
            await subscriptions.test(there, by)
        case "retry":
            count = await subscriptions.retry(there, by)
        case _:
            raise UsageError("say what to do: pause, resume, test or retry")
    return _to(there.name, wanted, count)


async def replay(acting: Acting) -> Response:
    """The second click: exactly the window that was previewed."""
    subscriptions = acting.room.subscriptions
    there = await subscriptions.find(acting.form.text("name"))
    asked = replay_of(acting.room.desk, acting.form, there.name)
    return _to(there.name, "replay", await subscriptions.replay(there, asked, acting.by))


def _to(name: str, done: str, count: int | None) -> Response:
    where = address("/console/subscription", name=name, done=done, count=None if count is None else str(count))
    return RedirectResponse(where, 303)
