"""A real browser, and what the tests of the page need of it."""

from __future__ import annotations

import csv
import io
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Download, Page, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium; where it is missing, a failure that says how to get it."""
    assert CHROMIUM.is_file(), f"{CHROMIUM} is missing: apt-get install -y chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


class Visit:
    """The page, opened, with everything that it asked for or complained of."""

    def __init__(self, browser: Browser, address: str, **options: Any) -> None:
        self.context = browser.new_context(accept_downloads=True, **options)
        self.page: Page = self.context.new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(address)

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def choose(self, files: Sequence[Path]) -> None:
        """Choose files and wait until all are done."""
        before = self.page.locator("#list li").count()
        self.page.set_input_files("#files", [str(file) for file in files])
        self.page.locator("#list li").nth(before + len(files) - 1).wait_for(state="attached")
        self.settle()

    def settle(self) -> None:
        self.page.locator("#list[aria-busy=false]").wait_for(state="attached", timeout=60_000)
        self.page.locator("#list li.waiting, #list li.working").first.wait_for(state="detached")

    def errors(self) -> list[str]:
        return self.page.locator("#list li.failed .what").all_inner_texts()

    def download(self, button: str) -> bytes:
        with self.page.expect_download() as waiting:
            self.page.click(button)
        found: Download = waiting.value
        return Path(found.path()).read_bytes()

    def masks(self) -> dict[str, NDArray[Any]]:
        """Of all images, by the names of their files."""
        with zipfile.ZipFile(io.BytesIO(self.download("#save-all"))) as archive:
            assert archive.testzip() is None
            return {
                name: np.asarray(Image.open(io.BytesIO(archive.read(name))))
                for name in archive.namelist()
                if name.endswith(".png")
            }

    def table(self) -> list[dict[str, str]]:
        text = self.download("#save-table").decode("utf-8-sig")
        return list(csv.DictReader(io.StringIO(text, newline="")))


CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
ADAM7 = [
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
    (0, 1, 1, 2),
]  # fmt: skip


def random_png(
    seed: int, kind: int, depth: int, size: tuple[int, int], *, interlaced: bool = False,
    palette: int = 0, before: Sequence[tuple[bytes, bytes]] = (),
) -> bytes:  # fmt: skip
    """A PNG of random bytes under random filters, which any decoder must undo alike.

    Args:
        seed: of the bytes.
        kind: the PNG colour type.
        depth: bits of a sample.
        size: width and height.
        interlaced: by Adam7.
        palette: the number of colours in it.
        before: chunks ahead of the pixels.
    """
    random = np.random.default_rng(seed)
    width, height = size
    raw = b""
    for x, y, dx, dy in ADAM7 if interlaced else [(0, 0, 1, 1)]:
        columns, rows = -(-(width - x) // dx), -(-(height - y) // dy)
        line = -(-columns * CHANNELS[kind] * depth // 8)
        for _ in range(rows if columns > 0 else 0):
            raw += bytes([random.integers(5)]) + random.bytes(line)
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, int(interlaced))
    chunks = [(b"IHDR", header)]
    if palette:
        chunks.append((b"PLTE", random.bytes(3 * palette)))
    packed = zlib.compress(raw)
    half = len(packed) // 2
    chunks += [*before, (b"IDAT", packed[:half]), (b"IDAT", packed[half:]), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
