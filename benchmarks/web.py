"""Time to the first mask and to later ones in a browser, and the size of the page.

python benchmarks/web.py [MODEL]

"First mask" is from opening the page with an image chosen at once, "later mask" a list's time
divided by its images, "model alone" what the page says of one image by itself.

MODEL is a run or a bundle; without one, med2d-segnet of random weights at 256 px. The page is
opened from a disk, where browsers give it one thread, and from a server whose headers allow
several (``Cross-Origin-Opener-Policy`` and ``Cross-Origin-Embedder-Policy``).
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from common import RESULTS, random_model, save
from medseg.export.graph import to_onnx
from medseg.export.web import write_page
from medseg.inference.network import load_network

SIZE = 256
IMAGES = 24
ROUNDS = 3


class Isolated(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def end_headers(self) -> None:
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()


@contextmanager
def served(folder: Path) -> Iterator[str]:
    handler = partial(Isolated, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


def measure(browser: Browser, address: str, images: list[str]) -> dict[str, float]:
    """Seconds from opening the page, with an image chosen at once, to its mask; and of each
    further image, all it takes and the model alone."""
    page = browser.new_page()
    started = time.perf_counter()
    page.goto(address)
    page.set_input_files("#files", images[:1])
    page.locator("#list li.done").wait_for(timeout=120_000)
    first = time.perf_counter() - started
    started = time.perf_counter()
    page.set_input_files("#files", images[1:])
    page.locator("#list li.done").nth(len(images) - 1).wait_for(timeout=300_000)
    each = (time.perf_counter() - started) / (len(images) - 1)
    alone = []
    for index in range(1, 6):
        page.locator("#list button").nth(index).click()
        page.get_by_role("heading", name=Path(images[index]).name).wait_for()
        page.locator("#list[aria-busy=false]").wait_for(state="attached", timeout=120_000)
        text = page.inner_text("#timing").partition("computed in ")[2]
        alone.append(float(text.partition(" ms")[0].replace(",", "")) / 1000)
    page.close()
    return {"first mask": first, "later mask": each, "model alone": statistics.median(alone)}


def main() -> None:
    model = (
        load_network(Path(sys.argv[1]), device="cpu")
        if sys.argv[1:]
        else random_model("med2d-segnet", SIZE)
    )
    graph = to_onnx(model)
    side = model.manifest.preprocessing.image_size
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        images = []
        for index in range(IMAGES):
            pixels = random.integers(0, 256, (side, side, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{index}.png")
            images.append(str(folder / f"{index}.png"))
        write_page(graph, model.manifest, folder / "page", single_file=False)
        write_page(graph, model.manifest, folder / "page.html", single_file=True)
        parts = {file.name: file.stat().st_size for file in (folder / "page").iterdir()}
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
        )
        with served(folder / "page") as isolated:
            places = {
                "opened from a disk: one thread an image, two workers for a list": (
                    folder / "page.html"
                ).as_uri(),
                "from a server that isolates the page: threads": isolated,
            }
            seconds: dict[str, Any] = {}
            for place, address in places.items():
                rounds = [measure(browser, address, images) for _ in range(ROUNDS)]
                seconds[place] = {
                    key: round(statistics.median(each[key] for each in rounds), 3)
                    for key in rounds[0]
                }
        version = browser.version
        browser.close()
    save(
        RESULTS / "web.json",
        {
            "browser": f"Chromium {version}, headless",
            "model": f"{model.manifest.system}, {side} px",
            "seconds": seconds,
            "megabytes": {
                "page without the model": round((sum(parts.values()) - parts["model.js"]) / 1e6, 2),
                "model": round(parts["model.js"] / 1e6, 2),
            },
        },
    )


if __name__ == "__main__":
    main()
