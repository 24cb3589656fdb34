"""The image in a request: in memory, within limits, never in a file."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.exceptions import HTTPException
from starlette.requests import Request

from medseg.serve.limits import Limits

FIELD = "image"


class Bodies:
    """Reads bodies, and knows how many bytes of them are held.

    Args:
        limits: of the service.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.held = 0

    @contextmanager
    def reading(self) -> Iterator[Body]:
        """A body that counts as held until the block ends."""
        body = Body(self)
        try:
            yield body
        finally:
            self.held -= body.counted


class Body:
    """The body of one request."""

    def __init__(self, bodies: Bodies) -> None:
        self.bodies = bodies
        self.counted = 0

    async def image(self, request: Request) -> bytes:
        """The bytes of the image file.

        Raises:
            HTTPException: 400 malformed, 408 too slow, 413 too long, 415 of another type, 422
                without an image, 429 too many at a time.
            ClientDisconnect: there is nobody to answer.
        """
        kind, options = parse_options_header(request.headers.get("content-type"))
        multipart = kind == b"multipart/form-data"
        plain = kind in (b"", b"application/octet-stream") or kind.startswith(b"image/")
        if not (multipart or plain):
            raise HTTPException(
                415, "Send the image file as the body (image/* or application/octet-stream) or as "
                f"the field '{FIELD}' of multipart/form-data"
            )  # fmt: skip
        data = await self._read(request)
        if multipart:
            data = _field(data, options.get(b"boundary", b""))
        if not data:
            raise HTTPException(422, "The image is empty")
        return data

    async def _read(self, request: Request) -> bytes:
        limits = self.bodies.limits
        declared = request.headers.get("content-length", "0")
        if declared.isdecimal() and int(declared) > limits.max_upload:
            raise self._too_long()
        data = bytearray()
        try:
            async with asyncio.timeout(limits.timeout):
                async for chunk in request.stream():
                    self.counted += len(chunk)
                    self.bodies.held += len(chunk)
                    if self.counted > limits.max_upload:
                        raise self._too_long()
                    if self.bodies.held > limits.max_bodies:
                        raise busy("Too much is being uploaded at a time")
                    data += chunk
        except TimeoutError as error:
            raise HTTPException(408, f"The upload took longer than {limits.timeout:g} s") from error
        return bytes(data)

    def _too_long(self) -> HTTPException:
        megabytes = self.bodies.limits.max_upload / 1e6
        return HTTPException(413, f"The upload is larger than the {megabytes:g} MB allowed")


def busy(reason: str) -> HTTPException:
    """There is no room for this request now."""
    return HTTPException(429, f"{reason}: try again later", headers={"Retry-After": "1"})


def _field(data: bytes, boundary: bytes) -> bytes:
    """The content of the field ``image`` of a form."""
    if not boundary:
        raise HTTPException(400, "The form names no boundary in its content type")
    found = _Form()
    try:
        parser = MultipartParser(boundary, found.callbacks)
        parser.write(data)
        parser.finalize()
    except FormParserError as error:
        raise HTTPException(400, "The form is malformed") from error
    if not found.complete:
        raise HTTPException(400, "The form is incomplete")
    if found.image is None:
        raise HTTPException(422, f"The form has no field '{FIELD}'")
    return bytes(found.image)


class _Form:
    """What the parser of a form meets; only the first field ``image`` is kept."""

    def __init__(self) -> None:
        self.image: bytearray | None = None
        self.complete = False
        self._header = bytearray()
        self._value = bytearray()
        self._wanted = False

    @property
    def callbacks(self) -> Any:
        return {
            "on_part_begin": self._part_begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_part_data": self._part_data,
            "on_end": self._end,
        }

    def _part_begin(self) -> None:
        self._wanted = False

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            _, options = parse_options_header(bytes(self._value))
            if options.get(b"name") == FIELD.encode() and self.image is None:
                self._wanted = True
                self.image = bytearray()
        self._header.clear()
        self._value.clear()

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._wanted and self.image is not None:
            self.image += data[start:end]

    def _end(self) -> None:
        self.complete = True
