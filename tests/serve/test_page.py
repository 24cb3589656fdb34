"""The page of the service, in a real browser."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from commands import medseg
from data.builders import noise
from export.web_browser import Visit, chromium
from serve.servers import serving


def test_the_page_asks_for_the_token_and_shows_the_masks_that_the_service_computes(
    served: dict[str, Path], tmp_path: Path
) -> None:
    files = []
    for seed, suffix in ((1, "png"), (2, "jpg"), (3, "tif")):
        files.append(tmp_path / f"image_{seed}.{suffix}")
        Image.fromarray(noise(seed, (40, 52))).save(files[-1])
    ran = medseg("predict", served["bright"], *files, "-o", tmp_path / "out", "--engine", "onnx")
    assert ran.code == 0, ran.err
    with (
        serving(tmp_path / "s", served["bright"], MEDSEG_TOKEN="s3cret") as server,
        chromium() as browser,
        Visit(browser, f"http://127.0.0.1:{server.port}/") as visit,
    ):
        visit.page.set_input_files("#files", [str(file) for file in files])
        visit.page.locator("#token-dialog").wait_for(state="visible")
        visit.page.fill("#token", "wrong")
        visit.page.keyboard.press("Enter")
        visit.page.locator("#token-wrong").wait_for(state="visible")
        visit.page.fill("#token", "s3cret")
        visit.page.keyboard.press("Enter")
        visit.settle()
        assert visit.errors() == []
        masks = visit.masks()
        assert len(masks) == len(files)
        for file in files:
            (found,) = (mask for name, mask in masks.items() if file.stem in name)
            assert np.array_equal(
                found, np.asarray(Image.open(tmp_path / "out" / f"{file.stem}.png"))
            )
        home = f"http://127.0.0.1:{server.port}/"
        assert all(each.startswith((home, "blob:", "data:")) for each in visit.requests)
        policy = [each for each in visit.complaints if "Content Security Policy" in each]
        assert policy == []
