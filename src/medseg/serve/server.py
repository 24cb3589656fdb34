"""Listening, and stopping without losing what runs."""

from __future__ import annotations

import ipaddress
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from medseg.errors import MedsegError
from medseg.serve.guard import LOG
from medseg.serve.limits import KEEP_ALIVE_SECONDS, Limits
from medseg.serve.pages import browser_page
from medseg.serve.protocol import PatientProtocol
from medseg.serve.served import load_models
from medseg.serve.service import Service, create_app


def serve(
    models: Sequence[Path],
    *,
    host: str,
    port: int,
    token: str | None,
    limits: Limits,
    say: Callable[[str], None],
) -> None:
    """Serve models until the process is told to stop; then answer what runs, and return.

    Args:
        models: run folders, bundles or exported graphs.
        host: name or address to listen at.
        port: 0 for any that is free.
        token: that clients must send; needed where ``host`` is not this machine alone.
        limits: of the service.
        say: told where the service listens, once it does.

    Raises:
        MedsegError: no token where one is needed, a port in use, or models that cannot be loaded.
    """
    local = is_loopback(host)
    if not local and token is None:
        raise MedsegError(
            "--host", f"{host} can be reached from other machines",
            "Set a token with MEDSEG_TOKEN or --token, or leave --host out",
        )  # fmt: skip
    listener = _listen(host, port)
    with listener:
        served = load_models(models, threads=limits.threads)
        hosts = frozenset({"localhost", "127.0.0.1", "[::1]", host.lower()})
        app = create_app(
            Service(served, limits),
            page=browser_page(served, with_cards=token is None),
            token=token,
            hosts=hosts if local and token is None else None,
        )
        _log_to_stderr()
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{listener.getsockname()[1]}"
        names = ", ".join(served)
        _Server(
            uvicorn.Config(
                app,
                http=PatientProtocol,
                ws="none",
                loop="asyncio",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=round(2 * limits.timeout) + 1,
            ),
            lambda: say(f"{names} at {address} (Ctrl-C stops)"),
        ).run(sockets=[listener])


def is_loopback(host: str) -> bool:
    """Whether only programs on this machine reach what listens at ``host``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise MedsegError(
            "--host", f"{host} is no address of this machine ({error.strerror or error})",
            "Check the spelling",
        ) from error  # fmt: skip
    try:
        if sys.platform != "win32":  # where it would let two services share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise MedsegError(
            "--port", f"cannot listen at {host}:{port} ({error.strerror})",
            "Choose another, or --port 0 for any that is free",
        ) from error  # fmt: skip
    return listener


def _log_to_stderr() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for logger, level in ((LOG, logging.INFO), (logging.getLogger("uvicorn"), logging.WARNING)):
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False
    # It quotes what it cannot parse.
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL + 1)


class _Server(uvicorn.Server):
    """Says when it listens; a signal that stops it is no failure."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._started()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn raises the signal again once it has stopped.
        before = {each: signal.signal(each, _ignore) for each in (signal.SIGINT, signal.SIGTERM)}
        try:
            with super().capture_signals():
                yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)


def _ignore(*_: object) -> None:
    pass
