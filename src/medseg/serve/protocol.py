"""HTTP/1.1 for clients who may be slow on purpose."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from medseg.serve.limits import HEADER_SECONDS, MAX_CONNECTIONS


class PatientProtocol(H11Protocol):
    """uvicorn's protocol, which by itself waits for ever for the head of a request and for a
    client to take its answer."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
            return
        self._expect_progress()

    def connection_lost(self, exc: Exception | None) -> None:
        self._progress()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        answered = before is None or before.response_complete
        super().data_received(data)
        if self.cycle is not before:
            self._progress()
        elif answered and self._deadline is None:
            # The first bytes of another head, which ended the time a kept connection may idle.
            self._expect_progress()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._expect_progress()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._expect_progress()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_progress()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._progress()

    def _expect_progress(self) -> None:
        self._progress()
        self._deadline = self.loop.call_later(HEADER_SECONDS, self.transport.abort)

    def _progress(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
