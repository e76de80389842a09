"""The only way out to a provider: one HTTP client with bounds on time, size and connections. Knows no provider.

httpx says which way an address is reached (proxies, trusted roots, bounds), aiohttp carries (`httpx-aiohttp`): httpx's
own pool falls from 165 to 48 requests/s between 20 and 100 connections at 80 ms latency. Each request speaks to
aiohttp's session directly: httpx's own request, cookies, redirects and streams, none of which are wanted here, were
two thirds of what it cost (0.9 ms of CPU against 0.25; decision 0097).
Every name of httpx and aiohttp stays in this file, so that another client is a change of one file.
"""

from __future__ import annotations

import asyncio
import errno
import io
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport, HttpxAiohttpClient

from reconciler.errors import BadReply, Unavailable
from reconciler.inflating import ENCODINGS, Inflated, Unreadable
from reconciler.provider import Reply, Request

MEBIBYTE = 1024 * 1024

_MOST_WAYS = 1000
"""Addresses whose way is remembered: providers are a few, subscribers as many as there are."""


class HttpTransport:
    """Implements `reconciler.provider.Transport`. One instance serves every account of a worker.

    Belongs to the event loop of its first request; close it there. It follows no redirect, keeps no cookie (one
    account's must never travel with another's request) and never repeats a write; a GET whose kept-alive connection
    turns out to be closed is sent once more on a fresh one, because the provider cannot have answered it.

    `trust_env` obeys HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, and SSL_CERT_FILE or SSL_CERT_DIR for the
    trusted roots, as an egress proxy needs. Turn it off where the environment is not the operator's.
    """

    def __init__(
        self,
        *,
        connect_seconds: float = 5.0,
        read_seconds: float = 30.0,
        write_seconds: float = 10.0,
        pool_seconds: float = 10.0,
        total_seconds: float = 50.0,
        connections: int = 100,
        max_body_bytes: int = 32 * MEBIBYTE,
        trust_env: bool = True,
        refuses: Callable[[str], str | None] | None = None,
        cut_answers: bool = False,
        trusted_certificates: str = "",
    ) -> None:
        """`trusted_certificates` is a PEM file of authorities that are believed beside the public ones; raises OSError
        where it cannot be read or holds none. Certificates are always verified: there is no way to turn that off.

        `refuses` says of an IP address why nothing may be sent there (None: it may). It is asked of the address
        that a socket is about to connect to, after names were resolved: there is no second look-up to lie to. Such a
        transport needs `trust_env` off, for a proxy would do the connecting. `cut_answers` returns the beginning of
        an answer that exceeds `max_body_bytes` or cannot be unpacked, and closes its connection, where the status is
        what matters.

        `read_seconds` bounds the silence between two pieces of an answer, `total_seconds` the whole exchange,
        so that an answer that drips cannot outlive a lease of 60 s. aiohttp has no time-out of its own for writing;
        a write is bounded by `write_seconds` as part of connect + write + read, and always by the total.
        """
        # Waiting for the first byte of the answer includes connecting and writing: aiohttp tells them apart no further.
        self._first_byte_seconds = pool_seconds + connect_seconds + write_seconds + read_seconds
        self._total_seconds = total_seconds
        self._max_body_bytes = max_body_bytes
        self._cut_answers = cut_answers
        if refuses is not None and trust_env:
            raise ValueError("a guarded transport must not trust the environment: a proxy connects where it is told")
        self._timeout = aiohttp.ClientTimeout(
            connect=pool_seconds, sock_connect=connect_seconds, sock_read=read_seconds
        )
        self._ways: dict[str, _Way] = {}
        self._client = _Client(
            refuses=refuses,
            verify=_verification(trusted_certificates, trust_env=trust_env),
            timeout=httpx.Timeout(connect=connect_seconds, read=read_seconds, write=write_seconds, pool=pool_seconds),
            limits=httpx.Limits(
                max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=30.0
            ),
            trust_env=trust_env,
        )

    async def send(self, request: Request) -> Reply:
        """One exchange. Raises `Unavailable` when no complete answer came, `BadReply` when it exceeds the bound."""
        try:
            now = asyncio.get_running_loop().time()
            ends_at = now + self._total_seconds
            async with asyncio.timeout_at(min(now + self._first_byte_seconds, ends_at)) as bound:
                return await self._exchange(request, bound, ends_at)
        except (httpx.InvalidURL, UnicodeError) as error:  # the latter is the resolver's: no name has such a part
            raise BadReply(f"{request.url!r} is not an address; check the account's base_url") from error
        except TimeoutError as error:
            raise Unavailable(f"{_target(request)}: no complete answer within its time-out") from error
        except aiohttp.ClientConnectorError as error:
            raise Unavailable(f"{_target(request)}: no connection: {error}") from error
        except Unreadable as error:
            raise Unavailable(f"{_target(request)}: no complete answer: {error}") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"{_target(request)}: {type(error).__name__}: {error}") from error

    async def aclose(self) -> None:
        """Close every connection. Safe to call twice."""
        await self._client.aclose()

    async def _exchange(self, request: Request, bound: asyncio.Timeout, ends_at: float) -> Reply:
        way = self._way(request.url)
        response = await way.session.request(
            request.method,
            request.url,
            headers=request.headers,
            data=request.content or None,
            allow_redirects=False,
            timeout=self._timeout,
            proxy=way.proxy,
            proxy_auth=way.proxy_auth,
            proxy_headers=way.proxy_headers,
        )
        try:
            if bound.when() != ends_at:
                bound.reschedule(ends_at)
            content = await self._read(response, request)
        except BaseException:
            response.close()
            raise
        return Reply(response.status, _headers(response), content)

    async def _read(self, response: aiohttp.ClientResponse, request: Request) -> bytes:
        """The unpacked body, bounded while it arrives: a compressed bomb is cut off like any other. In one buffer: kept
        one by one, pieces of a few bytes would take twenty times what is in them."""
        body = io.BytesIO()
        packed = Inflated(response.headers.get("content-encoding", ""))
        try:
            async for arrived in response.content.iter_any():
                for piece in packed.feed(arrived):
                    body.write(piece)
                    if body.tell() > self._max_body_bytes:
                        raise BadReply(f"{_target(request)}: the answer is larger than {self._max_body_bytes} bytes")
            packed.end()
        except (BadReply, Unreadable):
            if not self._cut_answers:
                raise
            response.close()
            return body.getvalue()[: self._max_body_bytes]
        return body.getvalue()

    def _way(self, url: str) -> _Way:
        """How an address is reached: decided once for each host, because the environment does not change."""
        scheme, _, rest = url.partition("://")
        origin = f"{scheme}://{rest.partition('/')[0].partition('?')[0]}"
        way = self._ways.get(origin)
        if way is None:
            way = self._client.way_to(origin)
            if len(self._ways) < _MOST_WAYS:
                self._ways[origin] = way
        return way


@dataclass(frozen=True, slots=True)
class _Way:
    """A session, and the proxy in front of an address."""

    session: aiohttp.ClientSession
    proxy: str | None = None
    proxy_auth: aiohttp.BasicAuth | None = None
    proxy_headers: Mapping[str, str] | None = None


class _Client(HttpxAiohttpClient):
    """httpx over aiohttp sessions that store no cookies; the two hooks are the ones `httpx-aiohttp` itself uses."""

    def __init__(self, *, refuses: Callable[[str], str | None] | None, **options: Any) -> None:
        self._refuses = refuses  # the hooks run inside the constructor
        super().__init__(**options)

    def _init_transport(self, *args: Any, **kwargs: Any) -> httpx.AsyncBaseTransport:
        return _with_sessions_of_ours(super()._init_transport(*args, **kwargs), self._refuses)

    def _init_proxy_transport(self, *args: Any, **kwargs: Any) -> httpx.AsyncBaseTransport:
        return _with_sessions_of_ours(super()._init_proxy_transport(*args, **kwargs), self._refuses)

    def way_to(self, origin: str) -> _Way:
        """Raises httpx.InvalidURL for what is no address."""
        transport = self._transport_for_url(httpx.URL(origin))
        assert isinstance(transport, AiohttpTransport), "the hooks above make no others"
        session = transport.get_client()
        transport.client = session
        if transport.proxy is None:
            return _Way(session)
        auth = None if transport.proxy.auth is None else aiohttp.BasicAuth(*transport.proxy.auth)
        return _Way(session, str(transport.proxy.url), auth, dict(transport.proxy.headers))


def _verification(trusted_certificates: str, *, trust_env: bool) -> ssl.SSLContext:
    context = httpx.create_ssl_context(trust_env=trust_env)
    if trusted_certificates:
        context.load_verify_locations(cafile=trusted_certificates)
    return context


def _with_sessions_of_ours(
    transport: httpx.AsyncBaseTransport, refuses: Callable[[str], str | None] | None
) -> httpx.AsyncBaseTransport:
    if isinstance(transport, AiohttpTransport):
        limits, context = transport.limits, transport.ssl_context
        transport.client = lambda: _open_session(limits, context, refuses)
    return transport


def _open_session(
    limits: httpx.Limits, context: ssl.SSLContext, refuses: Callable[[str], str | None] | None
) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=limits.max_connections or 0,
            keepalive_timeout=limits.keepalive_expiry,
            ssl=context,
            socket_factory=None if refuses is None else _guarded(refuses),
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        # aiohttp takes a packed body that was cut off for a whole one, where only the connection's end ends it.
        auto_decompress=False,
        headers={"accept-encoding": ENCODINGS},
    )


def _guarded(refuses: Callable[[str], str | None]) -> Callable[[aiohttp.AddrInfoType], socket.socket]:
    """Sockets for addresses that are not refused: the last moment before a connection, with nothing left to resolve."""

    def make(info: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, address = info
        reason = refuses(str(address[0]))
        if reason is not None:
            raise PermissionError(errno.EACCES, f"refused: {reason}")
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        return made

    return make


def _headers(response: aiohttp.ClientResponse) -> dict[str, str]:
    """With names in lower case; of one that came several times, all values."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in response.raw_headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _target(request: Request) -> str:
    """Where a request went, without its query: a query may hold a customer's address."""
    return f"{request.method} {request.url.partition('#')[0].partition('?')[0]}"
