"""What stands before every route: who may ask, what is logged, and the headers of every answer."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from medseg.serve.limits import Limits
from medseg.serve.metrics import Metrics

LOG = logging.getLogger("medseg.serve")

GONE = 499
"""The status that is counted, and sent to nobody, where the client has left."""

_NOTHING = "default-src 'none'; frame-ancestors 'none'"
_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
    "content-security-policy": _NOTHING,
}
_DRAIN_SECONDS = 2.0


@dataclass(frozen=True)
class Door:
    """Who may ask.

    Attributes:
        token: to be sent as ``Authorization: Bearer TOKEN``; None for nobody to need one.
        hosts: names by which this service may be addressed; None for any. Without a token a web
            page elsewhere could otherwise have its own name point at this machine, and ask.
        routes: known paths; others are not logged by name.
        open_routes: those that need no token.
    """

    token: str | None
    hosts: frozenset[str] | None
    routes: frozenset[str]
    open_routes: frozenset[str]

    def refusal(self, scope: Scope, headers: dict[bytes, bytes]) -> tuple[int, str] | None:
        """The status and text with which a request is turned away, or None."""
        host = headers.get(b"host", b"").decode("latin-1").lower()
        name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
        if self.hosts is not None and name not in self.hosts:
            return 421, "This service is not known by the name in the header 'Host'"
        if self.token is None or scope["path"] in self.open_routes:
            return None
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        right = hmac.compare_digest(given.strip(), self.token.encode())
        if scheme.lower() == b"bearer" and right:
            return None
        return 401, "Send the service's token: Authorization: Bearer TOKEN"


class Guard:
    """The outermost application."""

    def __init__(self, app: ASGIApp, *, door: Door, metrics: Metrics, limits: Limits) -> None:
        self.app = app
        self.door = door
        self.metrics = metrics
        self.limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        exchange = _Exchange(scope, receive, send, self.limits)
        path = scope["path"]
        route = path if path in self.door.routes else "other"
        started = time.perf_counter()
        with self.metrics.in_flight.track_inprogress():
            try:
                refused = self.door.refusal(scope, exchange.headers)
                if refused is not None:
                    await exchange.answer(*refused)
                else:
                    await self.app(scope, exchange.receive, exchange.send)
            except Exception as error:
                where = traceback.extract_tb(error.__traceback__)[-1]
                LOG.error("%s at %s:%s", type(error).__name__, where.filename, where.lineno)
                if exchange.status == 0:
                    await exchange.answer(500, "The service failed; its log says where")
            finally:
                seconds = time.perf_counter() - started
                status = exchange.status or GONE
                self.metrics.requests.labels(route, status).inc()
                self.metrics.seconds.labels(route).observe(seconds)
                # Neither the query nor an unknown path: either may hold a patient's name.
                LOG.info(
                    "%s %s %s %d bytes %.0f ms",
                    scope["method"] if scope["method"] in _METHODS else "?",
                    route, status, exchange.sent, 1000 * seconds,
                )  # fmt: skip


_METHODS = frozenset({"GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"})


class _Exchange:
    """A request and its answer, as they pass."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, limits: Limits) -> None:
        self.headers: dict[bytes, bytes] = dict(reversed(scope["headers"]))
        self.status = 0
        self.sent = 0
        self._receive = receive
        self._send = send
        self._limits = limits
        has_body = self.headers.get(b"content-length", b"0") != b"0" or (
            b"transfer-encoding" in self.headers
        )
        self._unread = has_body and b"expect" not in self.headers

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._unread = False
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            names = {name.lower() for name, _ in message["headers"]}
            extra = [
                (name.encode(), value.encode())
                for name, value in _HEADERS.items()
                if name.encode() not in names
            ]
            message = {**message, "headers": [*message["headers"], *extra]}
        elif message["type"] == "http.response.body":
            self.sent += len(message.get("body", b""))
            if self._unread and not message.get("more_body", False):
                await self._send({**message, "more_body": True})
                await self._drain()
                message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    async def answer(self, status: int, detail: str) -> None:
        body = json.dumps({"detail": detail}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        if status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})

    async def _drain(self) -> None:
        """Read on for a while: a connection that is closed on a client who still sends is reset,
        and takes the answer with it."""
        passed = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                while self._unread and passed < self._limits.max_upload:
                    passed += len((await self.receive()).get("body", b""))
