"""Draw docs/images/browser.png: the exported page in a browser, with images that come with medseg.

python tools/browser_picture.py MODEL

MODEL is what `medseg demo` leaves.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

import medseg
from medseg.export.graph import to_onnx
from medseg.export.web import write_page
from medseg.inference.network import load_network

OUTPUT = Path(__file__).parents[1] / "docs" / "images" / "browser.png"
PHOTOS = Path(medseg.__file__).parent / "demo" / "dsb2018" / "images"


def main() -> None:
    model = load_network(sys.argv[1], device="cpu")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page_file = Path(folder) / "page.html"
        write_page(to_onnx(model), model.manifest, page_file, single_file=True)
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1280, "height": 1090})
        page.goto(page_file.as_uri())
        page.set_input_files("#files", [str(file) for file in sorted(PHOTOS.glob("*.jpg"))[:9]])
        page.locator("#list li.done").nth(8).wait_for(timeout=120_000)
        page.locator("#timing").evaluate("(line) => line.remove()")  # differs from run to run
        picture = Image.open(io.BytesIO(page.screenshot()))
        browser.close()
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    picture.convert("RGB").quantize(256).save(OUTPUT, optimize=True)


if __name__ == "__main__":
    main()
