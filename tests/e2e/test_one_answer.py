"""One model, five surfaces, one answer: Python, command line, runtime, HTTP and browser."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import medseg
from commands import TINY
from commands import medseg as command
from export.web_browser import Visit, chromium
from medseg.data.io import read_image
from serve.servers import Server, png, serving

DEMO = Path(medseg.__file__).parent / "demo" / "dsb2018"
PHOTOS = sorted((DEMO / "images").glob("*.jpg"))

# `medseg` where PyTorch and SciPy cannot be imported.
WITHOUT_TORCH = """
import sys
for name in ("torch", "scipy", "matplotlib", "safetensors", "accelerate"):
    sys.modules[name] = None
from medseg.cli import main
main()
"""

Masks = dict[str, NDArray[np.uint8]]


@dataclass(frozen=True)
class World:
    """A trained model in all its forms, and images for it."""

    bundle: Path
    graph: Path
    page: Path
    lossless: Path
    jpegs: Path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("world")
    run = folder / "run"
    # So little training still finds something and leaves something out (asserted below).
    more = ("--epochs", 8, "--image-size", 48, "--set", "optimizer.learning_rate=0.01")
    assert command("train", DEMO, "-o", run, *TINY, *more).code == 0
    graph, page = folder / "model.onnx", folder / "page.html"
    for form in (
        ["onnx", "-o", graph],
        ["onnx", "-o", folder / "nuclei.medseg"],
        ["web", "-o", page, "--single-file"],
    ):
        done = command("export", run, "--format", *form)
        assert done.code == 0, done.err
    (folder / "lossless").mkdir()
    for name, pixels in twenty_images().items():
        (folder / "lossless" / f"{name}.png").write_bytes(png(pixels))
    (folder / "jpegs").mkdir()
    for photo in PHOTOS[:5]:
        shutil.copy(photo, folder / "jpegs")
    return World(folder / "nuclei.medseg", graph, page, folder / "lossless", folder / "jpegs")


def twenty_images() -> dict[str, NDArray[np.uint8] | NDArray[np.uint16]]:
    """Real microscopy: five each in colour, grey, 16 bits, and sizes that nothing divides."""
    found: dict[str, NDArray[np.uint8] | NDArray[np.uint16]] = {}
    for number, photo in enumerate(PHOTOS[:5]):
        colour = np.repeat(read_image(photo), 3, axis=2)[..., :3].copy()
        colour[..., 1] //= 2
        grey = read_image(PHOTOS[5 + number])[..., 0]
        found[f"colour-{number}"] = colour
        found[f"grey-{number}"] = grey
        found[f"deep-{number}"] = grey.astype(np.uint16)[::-1] * 97 + np.uint16(number)
        found[f"odd-{number}"] = colour[: 31 + 17 * number, : 97 - 13 * number]
    return found


@pytest.fixture(scope="module")
def server(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server"), world.bundle) as running:
        yield running


def by_python(world: World, images: Path) -> Masks:
    model = medseg.load(world.bundle, device="cpu", engine="torch")
    return {file.stem: model.predict(file) for file in sorted(images.iterdir())}


def by_command_line(world: World, images: Path, out: Path) -> Masks:
    assert command("predict", world.bundle, images, "-o", out).code == 0
    return written(out)


def by_runtime(world: World, images: Path, out: Path) -> Masks:
    arguments = [sys.executable, "-c", WITHOUT_TORCH, "predict", world.graph, images, "-o", out]
    subprocess.run(list(map(str, arguments)), check=True, capture_output=True)
    return written(out)


def by_http(server: Server, images: Path) -> Masks:
    found = {}
    for file in sorted(images.iterdir()):
        reply = server.predict(file.read_bytes())
        assert reply.status == 200, reply.detail
        found[file.stem] = reply.mask
    return found


def by_browser(world: World, images: Path) -> Masks:
    with chromium() as browser, Visit(browser, world.page.as_uri()) as visit:
        visit.choose(sorted(images.iterdir()))
        assert visit.errors() == []
        return {Path(name).stem: mask for name, mask in visit.masks().items()}


def written(folder: Path) -> Masks:
    return {file.stem: np.asarray(Image.open(file)) for file in sorted(folder.glob("*.png"))}


def test_five_surfaces_give_the_same_pixels(world: World, server: Server, tmp_path: Path) -> None:
    expected = by_python(world, world.lossless)
    assert len(expected) == 20
    # Else all might agree on nothing.
    assert sum(0 < (mask > 0).mean() < 1 for mask in expected.values()) >= 15
    surfaces = {
        "command line": by_command_line(world, world.lossless, tmp_path / "cli"),
        "runtime": by_runtime(world, world.lossless, tmp_path / "runtime"),
        "HTTP": by_http(server, world.lossless),
        "browser": by_browser(world, world.lossless),
    }
    for surface, masks in surfaces.items():
        assert masks.keys() == expected.keys(), surface
        for name, mask in masks.items():
            assert mask.dtype == expected[name].dtype
            assert np.array_equal(mask, expected[name]), f"{name}: {surface}"


def test_a_jpeg_may_differ_in_the_browser_by_a_pixel_in_a_thousand(
    world: World, server: Server, tmp_path: Path
) -> None:
    expected = by_python(world, world.jpegs)
    same = [
        by_command_line(world, world.jpegs, tmp_path / "cli"),
        by_runtime(world, world.jpegs, tmp_path / "runtime"),
        by_http(server, world.jpegs),
    ]
    assert all(np.array_equal(masks[name], expected[name]) for masks in same for name in expected)
    for name, mask in by_browser(world, world.jpegs).items():
        assert (mask != expected[name]).mean() <= 0.001
