"""What strangers and shops write: markup, formulas, tricks with paths and headers, and plain nonsense."""

from __future__ import annotations

import csv
import io

import pytest

from tests.console.serving import Served
from tests.console.shop import CHARGE, HOSTILE_REF, PASSWORD
from tests.console.test_access import PAGES, POSTS


def test_stored_markup_stays_text(reading: Served) -> None:
    browser = reading.known("oper")
    for path in ("/console/resources?kind=product", f"/console/resource?ref={HOSTILE_REF}",
                 "/console/breaks?status=all", "/console/report/section/pairs",
                 "/console/search?q=<script>alert(1)</script>",
                 "/console/dead-letters?done=<script>alert(1)</script>"):  # fmt: skip
        page = browser.get(path).text
        assert "<script>alert" not in page, path
        assert "alert" in page or "section" in path or "breaks" in path


def test_a_spreadsheet_runs_nothing(reading: Served) -> None:
    table = reading.known("oper").get("/console/breaks?status=all&file=csv&table=breaks").text
    assert "+ann" in table
    for row in csv.reader(io.StringIO(table, newline="")):
        assert not [cell for cell in row if cell.startswith(("=", "+", "@"))]


HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
}


@pytest.mark.parametrize("path", ["/console", "/console/login", "/console/nothing", "/nothing", "/console/report"])
def test_every_answer_is_armoured(reading: Served, path: str) -> None:
    for browser in (reading.client(), reading.known("vera")):
        answer = browser.get(path)
        for name, value in HEADERS.items():
            assert answer.headers[name].startswith(value), (path, name)
        policy = answer.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "<style" not in answer.text
        assert "style=" not in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/console/../../etc/passwd", "/console/assets/../console.py", "/console/assets/..%2f..%2fpyproject.toml",
        "/console/assets/%00", "/console//", "/console/%2e%2e/", "/console/breaks/..%2f..%2fetc", "/console/breaks/%00",
        "/console/report/section/..%2fx", "/console/report/file/..%2f..%2fetc", "/.env", "/console/login/x",
    ],
)  # fmt: skip
def test_path_tricks_lead_nowhere(reading: Served, path: str) -> None:
    answer = reading.known("oper").get(path)
    assert answer.status_code in (303, 404)
    assert "root:" not in answer.text


@pytest.mark.parametrize(
    "query",
    [
        "as_of=yesterday", "as_of=9999-12-31", "as_of=%00", "after=x", "after=1", "after=99999999999999999999.1",
        "id=x", "id=99999999999999999999", "from=2026-13-01", "to=x", "from=2026-02-01&to=2026-01-01", "verdict=lost",
        "condition=ill", "least=ten", "least=NaN", "since=x", "until=2026-99-01", "since=2026-01-02&until=2026-01-01",
        "status=%ff", "file=exe", "file=csv&table=nothing", "version=0", "version=-1", "before_version=x", "sort=x.y",
        "q=" + "x" * 3000, "&".join(f"a{number}=1" for number in range(300)), "as_of=1e9d", "ref=%F0%9F%92%A9",
    ],
)  # fmt: skip
def test_nonsense_is_refused_in_words(reading: Served, query: str) -> None:
    browser = reading.known("oper")
    for path in ("/console/deliveries", "/console/resource", "/console/breaks", "/console/subscription"):
        answer = browser.get(f"{path}?{query}")
        assert answer.status_code in (200, 400, 404), (path, answer.status_code)
        assert "Traceback" not in answer.text


NONSENSE = [
    "as_of=9999-12-31", "as_of=%00", "after=%F0%9F%92%A9", "id=99999999999999999999&version=-1", "from=x&to=y",
    "since=%ff", "status=%27%20OR%201=1--&kind=%27;--&account=../../etc", "file=csv&table=../x", "name=" + "x" * 3000,
]  # fmt: skip


@pytest.mark.parametrize("path", PAGES)
def test_no_page_stumbles_over_nonsense(reading: Served, path: str) -> None:
    browser = reading.known("oper")
    for query in NONSENSE:
        answer = browser.get(f"{path}{'&' if '?' in path else '?'}{query}")
        assert answer.status_code in (200, 400, 404), (query, answer.status_code)
        assert "Traceback" not in answer.text


def test_no_form_stumbles_over_nonsense(console: Served) -> None:
    names = ("ref", "id", "act", "job", "name", "scope", "since", "until", "as_of", "from", "to", "days", "old", "kind")
    for path in POSTS:
        browser = console.client("oper")
        if path == "/console/me/sessions":
            continue  # takes no field: it ends every session, whatever stands in the form
        own = browser.csrf()
        for value in ("", "\x01'; DROP TABLE resource;--", "💩" * 100, "stripe/main/charge/" + "x" * 700, "9" * 40):
            fields = {**dict.fromkeys(names, value), "confirmed": "yes", "fresh": "a", "again": "b"}
            answer = browser.post(path, fields, csrf=own)
            assert answer.status_code in (400, 403, 404), (path, value, answer.status_code)
            assert "Traceback" not in answer.text
        assert browser.post(path, {"name": "x" * 3000}, csrf=own).status_code == 400


def test_what_was_refused_is_logged_without_secrets(console: Served, capfd: pytest.CaptureFixture[str]) -> None:
    console.client().login("oper", "wrong but long enough")
    viewer = console.client("vera")
    viewer.post("/console/resource/mark", {"ref": str(CHARGE)})
    viewer.post("/console/me/sessions", csrf="forged", headers={"origin": "https://evil.example"})
    said = capfd.readouterr()
    logged = said.out + said.err
    for each in ("login failed", "refused: role", "refused: form"):
        assert each in logged, logged
    for secret in ("wrong but long enough", PASSWORD, viewer.client.cookies["reconciler_session"]):
        assert secret not in logged


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/console", "GET, HEAD"), ("/console/login", "GET, HEAD, POST"), ("/console/logout", "POST"),
        ("/console/breaks/brk_1", "GET, HEAD, POST"), ("/console/dead-letters", "GET, HEAD, POST"),
        ("/console/dead-letters/preview", "GET, HEAD"), ("/console/tokens/revoke", "POST"),
        ("/api/v1/openapi.json", "GET, HEAD"), ("/api/v1/status", "GET, HEAD"),
        ("/api/v1/backfills", "GET, HEAD, POST"),
        ("/api/v1/backfills/b1", "DELETE"), ("/metrics", "GET, HEAD"),
    ],
)  # fmt: skip
def test_another_method_is_told_which_ones_there_are(reading: Served, path: str, allowed: str) -> None:
    """RFC 9110 15.5.6."""
    for method in ("OPTIONS", "PUT", "PATCH", "TRACE"):
        answer = reading.known("oper").client.request(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed), method
        assert answer.headers["content-type"].endswith("json") == (not path.startswith("/console"))


def test_a_huge_form_is_not_read(reading: Served) -> None:
    browser = reading.known("oper")
    own = browser.csrf()
    assert browser.post("/console/resource/mark", {"ref": "x" * 100_000}, csrf=own).status_code == 413
    assert browser.post("/console/resource/mark", {"ref": ["x"] * 1500}, csrf=own).status_code == 400
    assert reading.client().client.post("/console/login", data={"name": "x" * 100_000}).status_code == 400


def test_no_header_can_be_smuggled_in(reading: Served) -> None:
    browser = reading.client()
    answer = browser.get("/console/deliveries?x=%0d%0aset-cookie:%20a=b")
    assert "a" not in answer.cookies
    assert "\r" not in answer.headers["location"]
    named = reading.known("vera").get("/console/deliveries?file=csv&table=deliveries")
    assert named.headers["content-disposition"] == 'attachment; filename="deliveries.csv"'
