"""Who gets in, what they may do there, and what everybody else is told."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest

from reconciler.clock import ManualClock
from reconciler.console.access.passwords import Passwords
from reconciler.console.access.signing import Signer
from reconciler.console.access.throttle import Throttle
from reconciler.console.login import safe_path
from reconciler.errors import UsageError
from reconciler.ledger import listing, people
from reconciler.ledger.breaks import audit_rows, verify_audit
from reconciler.ledger.people import Role
from tests.console.serving import Served, mark_in
from tests.console.shop import CHARGE, DEAD, EMAIL, NOW, PASSWORD

POSTS = [
    "/console/report/sign", "/console/breaks/brk_1", "/console/resource/mark", "/console/unmask",
    "/console/dead-letters", "/console/jobs/job", "/console/jobs/backfill", "/console/jobs/cancel",
    "/console/subscription", "/console/subscription/replay",
    "/console/tokens", "/console/tokens/revoke", "/console/me/password", "/console/me/sessions",
]  # fmt: skip
PAGES = [
    "/console", "/console/report", "/console/breaks", "/console/resources", f"/console/resource?ref={CHARGE}",
    "/console/deliveries", "/console/missed", "/console/dead-letters", "/console/jobs", "/console/accounts",
    "/console/account?name=main", "/console/me", "/console/search?q=ch", "/console/subscriptions",
    "/console/subscription?name=erp", "/console/delivery?id=1", "/console/tokens",
]  # fmt: skip


def clock_of(console: Served) -> ManualClock:
    assert isinstance(console.clock, ManualClock)
    return console.clock


# --- logging in -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*PAGES, "/console/chart?key=match", "/console/report/file/json"])
def test_a_stranger_sees_the_login_and_nothing_else(reading: Served, path: str) -> None:
    answer = reading.client().get(path)
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/console/login?next=%2Fconsole")
    assert answer.text == ""


@pytest.mark.parametrize("path", POSTS)
def test_a_stranger_changes_nothing(reading: Served, path: str) -> None:
    assert reading.client().post(path, {"ref": str(CHARGE)}, csrf="x").status_code == 401


@pytest.mark.parametrize(("name", "password"), [("oper", "wrong but long enough"), ("nobody", PASSWORD), ("", "")])
def test_a_wrong_name_and_a_wrong_password_sound_alike(console: Served, name: str, password: str) -> None:
    answer = console.client().login(name, password)
    assert (answer.status_code, "Name or password is wrong." in answer.text) == (401, True)
    assert "reconciler_session" not in answer.headers.get("set-cookie", "")


def test_guessing_gets_slower_and_the_owner_gets_in_again(console: Served) -> None:
    guesser = console.client()
    codes = [guesser.login("oper", f"guess number {number}").status_code for number in range(6)]
    assert codes == [401, 401, 401, 401, 401, 429]
    refused = guesser.login("oper", PASSWORD)
    assert (refused.status_code, int(refused.headers["retry-after"]) > 0) == (429, True)
    clock_of(console).advance(timedelta(minutes=16))
    assert guesser.login("oper", PASSWORD).status_code == 303


def test_a_guessed_name_does_not_fill_the_memory() -> None:
    clock = ManualClock(NOW)
    throttle = Throttle(clock)
    for number in range(30_000):
        throttle.failed(f"name {number}", f"10.0.{number // 250}.{number % 250}")
    assert len(throttle._failures) <= 10_000
    assert throttle.wait("name 29999", "10.9.9.9") == timedelta(0)


def test_the_login_form_must_be_our_own(console: Served) -> None:
    mine, theirs = console.client(), console.client()
    form = {"csrf": mark_in(theirs.get("/console/login").text), "name": "oper", "password": PASSWORD}
    assert mine.client.post("/console/login", data=form).status_code == 403, "a mark of another browser"
    page = mine.get("/console/login").text
    for headers in ({"origin": "https://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}):
        form["csrf"] = mark_in(page)
        assert mine.client.post("/console/login", data=form, headers=headers).status_code == 403, headers


@pytest.mark.parametrize(
    "wanted",
    ["https://evil.example/", "//evil.example", "/\\evil.example", "/console//evil", "/console\\@evil", "javascript:x",
     "/console/x\r\nset-cookie: a=b", "/consolex", ""],
)  # fmt: skip
def test_a_login_leads_nowhere_but_here(wanted: str) -> None:
    assert safe_path(wanted) == "/console"


def test_a_login_leads_to_the_page_that_was_wanted(console: Served) -> None:
    browser = console.client()
    answer = browser.login("vera", PASSWORD, next="/console/deliveries?verdict=rejected")
    assert answer.headers["location"] == "/console/deliveries?verdict=rejected"
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie


# --- sessions -------------------------------------------------------------------------------------


def test_a_session_ends_by_itself(console: Served) -> None:
    browser, clock = console.client("vera"), clock_of(console)
    for _ in range(6):
        clock.advance(timedelta(hours=1, minutes=55))
        assert browser.get("/console/me").status_code == 200, "used in time"
    clock.advance(timedelta(hours=1))
    assert browser.get("/console/me").status_code == 303, "twelve hours after the login"
    idle = console.client("vera")
    clock.advance(timedelta(hours=2, seconds=1))
    assert idle.get("/console/me").status_code == 303, "two hours without a request"


def test_a_cookie_is_worthless_once_its_owner_has_left(console: Served) -> None:
    browser = console.client("vera")
    stolen = dict(browser.client.cookies)
    browser.post("/console/logout")
    thief = console.client()
    thief.client.cookies.update(stolen)
    assert thief.get("/console/me").status_code == 303


@pytest.mark.parametrize("how", ["password", "role", "removed", "everywhere"])
def test_a_change_of_rights_ends_every_session(console: Served, how: str) -> None:
    thief, owner = console.client("fin"), console.client("fin")
    if how == "everywhere":
        owner.post("/console/me/sessions")
    else:
        with console.ledger.store.write() as tx:
            if how == "removed":
                people.remove_user(tx, "fin", by="test", now=NOW)
            elif how == "role":
                people.change_user(tx, "fin", by="test", now=NOW, role=Role.VIEWER)
            else:
                people.change_user(tx, "fin", by="test", now=NOW, password_hash="x")
    assert thief.get("/console/me").status_code == 303


def test_a_forged_or_bent_cookie_never_reaches_the_ledger(console: Served) -> None:
    browser = console.client("vera")
    good = browser.client.cookies["reconciler_session"]
    token, _, mark = good.rpartition(".")
    bent = mark[:-1] + ("1" if mark.endswith("0") else "0")
    for bad in (token, f"{token}.{bent}", f"{token}x.{mark}", "x" * 5000, "", ".", f"ä.{mark}"):
        thief = console.client()
        answer = thief.get("/console/me", headers={"cookie": f"reconciler_session={bad}".encode()})
        assert answer.status_code == 303, bad
    assert Signer(b"another key").signed("session", good) is None


def test_the_ledger_holds_no_secret_in_clear(console: Served) -> None:
    browser = console.client("oper")
    made = browser.post("/console/tokens", {"name": "till", "scope": "mark"})
    secret = made.text.partition('<p class="secret code">')[2].partition("<")[0]
    assert secret.startswith("rct_")
    cookie = browser.client.cookies["reconciler_session"]
    console.ledger.store.checkpoint()
    with open(console.config.ledger.url.removeprefix("sqlite:///"), "rb") as file:
        stored = file.read()
    for each in (secret, cookie, cookie.partition(".")[0], PASSWORD):
        assert each.encode() not in stored


# --- roles and forms ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "path", "fields"),
    [
        ("vera", "/console/breaks/brk_1", {"act": "note", "text": "x"}),
        ("vera", "/console/report/sign", {"act": "prepare"}),
        ("vera", "/console/resource/mark", {"ref": str(CHARGE)}),
        ("vera", "/console/unmask", {"ref": str(CHARGE)}),
        ("fin", "/console/resource/mark", {"ref": str(CHARGE)}),
        ("fin", "/console/unmask", {"ref": str(CHARGE)}),
        ("fin", "/console/dead-letters", {"act": "retry", "all": "yes"}),
        ("fin", "/console/jobs/backfill", {"since": "2h", "confirmed": "yes"}),
        ("fin", "/console/jobs/job", {"job": "x"}),
        ("fin", "/console/jobs/cancel", {"id": "b1"}),
        ("fin", "/console/subscription", {"name": "erp", "act": "pause"}),
        ("fin", "/console/subscription/replay", {"name": "erp", "since": "2h"}),
        ("fin", "/console/tokens/revoke", {"id": "x"}),
        ("fin", "/console/tokens", {"name": "x", "scope": "mark"}),
    ],
)
def test_a_role_that_is_too_small_is_told_so(reading: Served, name: str, path: str, fields: dict[str, str]) -> None:
    answer = reading.known(name).post(path, fields)
    assert (answer.status_code, "This needs the role" in answer.text) == (403, True)


@pytest.mark.parametrize(
    "path",
    ["/console/tokens", "/console/dead-letters/preview?all=yes", "/console/subscription/replay?name=erp&since=2h"],
)
def test_some_pages_are_for_operators(reading: Served, path: str) -> None:
    assert reading.known("fin").get(path).status_code == 403
    assert reading.known("oper").get(path).status_code == 200


@pytest.mark.parametrize("path", POSTS)
def test_a_form_needs_the_mark_of_its_own_session(reading: Served, path: str) -> None:
    browser, other = reading.known("oper"), reading.client("oper")
    for mark in ("", "x", other.csrf(), "ä"):
        assert browser.post(path, {"ref": str(CHARGE)}, csrf=mark).status_code == 403, mark
    own = browser.csrf()
    for headers in (
        {"origin": "https://evil.example"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ):
        assert browser.post(path, {"ref": str(CHARGE)}, csrf=own, headers=headers).status_code == 403, headers
    assert browser.client.post(path, json={"csrf": own}).status_code == 415
    assert browser.get(path.replace("brk_1", "brk_nothing")).status_code in (200, 404, 405), "looking changes nothing"


def test_what_the_forms_did_is_in_the_audit_log(console: Served) -> None:
    operator = console.client("oper")
    assert operator.post("/console/resource/mark", {"ref": str(CHARGE)}).status_code == 303
    unmasked = operator.post("/console/unmask", {"ref": str(CHARGE)})
    assert unmasked.status_code == 303
    assert EMAIL in operator.get(unmasked.headers["location"]).text
    assert EMAIL not in operator.get(unmasked.headers["location"].replace("unmasked=", "unmasked=0")).text
    other = console.client("oper")
    assert EMAIL not in other.get(unmasked.headers["location"]).text, "an address is worth nothing in another session"
    assert operator.post("/console/dead-letters", {"act": "retry", "ref": str(DEAD[0])}).status_code == 303
    with console.ledger.store.read() as tx:
        rows, faults = audit_rows(tx), verify_audit(tx)
    assert [(row.actor, row.action, row.subject) for row in rows][-3:] == [
        ("oper", "mark", str(CHARGE)),
        ("oper", "unmask", str(CHARGE)),
        ("oper", "dead_letters.retry", str(DEAD[0])),
    ]
    assert faults == []


# --- personal fields ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["vera", "fin", "oper"])
@pytest.mark.parametrize(
    "path",
    [f"/console/resource?ref={CHARGE}", f"/console/resource?ref={CHARGE}&unmasked=yes&version=1",
     "/console/search?q=evt_told_0", "/console/dead-letters", "/console/dead-letters?file=csv&table=dead_letters",
     "/console/deliveries", "/console/deliveries?file=csv&table=deliveries"],
)  # fmt: skip
def test_personal_fields_are_masked_unless_somebody_stands_behind_it(reading: Served, name: str, path: str) -> None:
    answer = reading.known(name).get(path)
    assert answer.status_code == 200
    assert not any(each in answer.text for each in (EMAIL, "Jenny", "Hauptstr"))
    if name != "oper":
        assert "203.0.113.7" not in answer.text


def test_a_deliverys_body_is_masked_too(console: Served) -> None:
    with console.ledger.store.read() as tx:
        (told,) = listing.deliveries(
            tx, listing.DeliveryFilter("main", event_id="evt_told_1"), after=None, limit=5
        ).rows
        (forged,) = listing.deliveries(tx, listing.DeliveryFilter(verdict="rejected"), after=None, limit=5).rows
    for name, seen in (("vera", False), ("oper", True)):
        browser = console.client(name)
        permit = "yes"
        if seen:
            permit = _permit(browser.post("/console/unmask", {"id": str(told.id)}).headers["location"])
        page = browser.get(f"/console/delivery?id={told.id}&unmasked={permit}").text
        assert (EMAIL in page) == seen
        assert str(CHARGE) in page, "what it marked"
        if seen:
            permit = _permit(browser.post("/console/unmask", {"id": str(forged.id)}).headers["location"])
        raw = browser.get(f"/console/delivery?id={forged.id}&unmasked={permit}").text
        assert ("HYPERLINK" in raw) == seen, "nobody knows what is in a body that is no JSON"


def _permit(location: str) -> str:
    return parse_qs(urlsplit(location).query)["unmasked"][0]


# --- passwords ------------------------------------------------------------------------------------


@pytest.mark.parametrize("password", ["short", "x" * 2000, "oper oper oper"[:13]])
def test_a_password_that_is_too_easy_is_refused(password: str) -> None:
    with pytest.raises(UsageError):
        Passwords().hash(password, name="oper")


def test_the_products_own_hash_is_argon2id_at_its_price() -> None:
    hashed = Passwords().hash(PASSWORD, name="oper")
    assert hashed.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert Passwords().match(hashed, PASSWORD)
    assert not Passwords().match(hashed, PASSWORD + " ")
    assert not Passwords().match(None, PASSWORD)
    assert not Passwords().match("nonsense", PASSWORD)


def test_people_change_their_own_password(console: Served) -> None:
    browser = console.client("vera")
    fresh = "another horse, another staple"
    wrong = browser.post("/console/me/password", {"old": "no such password", "fresh": fresh, "again": fresh})
    assert wrong.status_code == 403
    assert (
        browser.post("/console/me/password", {"old": PASSWORD, "fresh": fresh, "again": fresh + "x"}).status_code == 400
    )
    assert browser.post("/console/me/password", {"old": PASSWORD, "fresh": fresh, "again": fresh}).status_code == 303
    assert browser.get("/console/me").status_code == 303, "logged out"
    assert console.client().login("vera", PASSWORD).status_code == 401
    assert console.client().login("vera", fresh).status_code == 303
