"""The documented nginx in front of the real intake, with TLS: bytes, addresses and limits arrive as they should."""

from __future__ import annotations

import asyncio
import datetime
import os
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from ipaddress import ip_network
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from reconciler.demo.children import reserved_port
from reconciler.intake import DoorLimits
from tests.intake.acme import ACCOUNT, event
from tests.intake.serving import PATIENCE_SECONDS, PATIENT, Reply, Served, read_reply, serving

FILE = Path(__file__).resolve().parents[2] / "docs" / "operations" / "nginx.conf"
NAME = "hooks.example.com"
LOG = "SELECT verdict, reason, source FROM delivery ORDER BY id"
LIMITS = replace(PATIENT, trusted_proxies=(ip_network("127.0.0.1/32"),), body_seconds=2 * PATIENCE_SECONDS)
HASTY = replace(LIMITS, body_seconds=1.0)

_MAIN = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
{user}
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/site.conf;
}}
"""


def certificate(folder: Path) -> None:
    """Signed by itself, for a day."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "hooks.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain, pkcs8 = serialization.NoEncryption(), serialization.PrivateFormat.PKCS8
    (folder / "hooks.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, pkcs8, plain))


def site(port: int, behind: int, folder: Path) -> str:
    """The file as it is documented, with this machine's ports and paths; each of them is in it once."""
    text = FILE.read_text()
    for documented, ours in (
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("http://127.0.0.1:8080", f"http://127.0.0.1:{behind}"),
        ("/etc/ssl/certs/hooks.pem", f"{folder}/hooks.pem"),
        ("/etc/ssl/private/hooks.key", f"{folder}/hooks.key"),
    ):
        assert text.count(documented) == 1, documented
        text = text.replace(documented, ours)
    return text


@dataclass(frozen=True, slots=True)
class Proxy:
    port: int
    trust: ssl.SSLContext

    @asynccontextmanager
    async def connection(
        self, source: str = "127.0.0.1"
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=self.trust, server_hostname=NAME, local_addr=(source, 0)
        )
        try:
            yield reader, writer
        finally:
            writer.close()
            with suppress(OSError, ssl.SSLError):
                await writer.wait_closed()

    async def ask(self, request: bytes, source: str = "127.0.0.1") -> Reply:
        async with self.connection(source) as (reader, writer):
            writer.write(request)
            return await read_reply(reader)


@asynccontextmanager
async def nginx(program: str, folder: Path, behind: int) -> AsyncIterator[Proxy]:
    with reserved_port() as port:
        async with _listening(program, folder, behind, port):
            yield Proxy(port, ssl.create_default_context(cafile=str(folder / "hooks.pem")))


@asynccontextmanager
async def _listening(program: str, folder: Path, behind: int, port: int) -> AsyncIterator[None]:
    certificate(folder)
    (folder / "site.conf").write_text(site(port, behind, folder))
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(_MAIN.format(folder=folder, user=user))
    running = await asyncio.create_subprocess_exec(program, "-c", f"{folder}/nginx.conf", "-p", str(folder))
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                assert running.returncode is None, (folder / "error.log").read_text()
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await asyncio.sleep(0.05)
                    continue
                writer.close()
                break
        yield
    finally:
        with suppress(ProcessLookupError):
            running.terminate()
        await running.wait()


def test_deliveries_come_through_the_documented_proxy(sqlite_ledger_url: str, tmp_path: Path) -> None:
    program = shutil.which("nginx", path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"]))
    if program is None:
        assert not os.environ.get("CI"), "nginx is missing; .ci/run installs it"
        pytest.skip("nginx is not here (Debian: nginx-light)")

    async def story() -> None:
        accounts = {ACCOUNT: DoorLimits(sources=(ip_network("127.0.0.0/30"),))}
        async with (
            serving(sqlite_ledger_url, limits=LIMITS, accounts=accounts) as served,
            nginx(program, tmp_path, served.port) as proxy,
        ):
            await bytes_are_kept(served, proxy)
            await the_sender_is_known(served, proxy)
            await too_large_a_body_ends_at_the_proxy(served, proxy)
            assert (await proxy.ask(b"GET /console HTTP/1.1\r\nhost: hooks.example.com\r\n\r\n")).status == 404
        async with (
            serving(sqlite_ledger_url, limits=HASTY, accounts=accounts) as served,
            nginx(program, tmp_path, served.port) as proxy,
        ):
            await a_slow_sender_is_the_proxys(served, proxy)

    asyncio.run(story())


async def bytes_are_kept(served: Served, proxy: Proxy) -> None:
    """Spaces, escapes, line feeds, text beyond ASCII, and a body that fills the limit: the signature holds."""
    odd = (
        b'{ "id": "evt_1",\r\n\t"type":"charge.updated", '
        b'"names" : [["charge","ch_\\u0031"]], "x": "\xc3\xa9\xf0\x9f\x92\xb6" }\n'
    )
    large = event(2, pad="")
    large = event(2, pad="x" * (1024 * 1024 - len(large)))
    assert len(large) == 1024 * 1024
    for body in (odd, large):
        assert (await proxy.ask(served.request(body))).status == 200
    assert (await proxy.ask(served.request(odd, secret="whsec_other"))).status == 401


async def the_sender_is_known(served: Served, proxy: Proxy) -> None:
    """By the proxy's word alone: what the sender says of itself is dropped."""
    lie = {"x-forwarded-for": "127.0.0.1"}
    assert (await proxy.ask(served.request(event(3), headers=lie), source="127.0.0.2")).status == 200
    assert (await proxy.ask(served.request(event(4), headers=lie), source="127.0.0.77")).status == 403
    # By their senders: a rejection from before may be stored after them, because nobody waits for that.
    seen = [row for row in await served.rows(LOG) if row[2] != "127.0.0.1"]
    assert seen == [("stored", None, "127.0.0.2"), ("rejected", "address", "127.0.0.77")]


async def too_large_a_body_ends_at_the_proxy(served: Served, proxy: Proxy) -> None:
    before = len(await served.rows(LOG))
    request = served.request(event(5, pad="x" * 1024 * 1024))
    assert (await proxy.ask(request[: request.index(b"\r\n\r\n") + 4])).status == 413
    assert len(await served.rows(LOG)) == before


async def a_slow_sender_is_the_proxys(served: Served, proxy: Proxy) -> None:
    """It takes longer than the daemon would wait for a body, which does not hear of it before the end."""
    request = served.request(event(6))
    async with proxy.connection() as (reader, writer):
        for part in (request[:-40], request[-40:-20], request[-20:]):
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(HASTY.body_seconds / 2)
        assert (await read_reply(reader)).status == 200
