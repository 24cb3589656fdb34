"""The page's own reader of image files gives the pixels that medseg's reader gives."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page

from medseg.data.io import read_image
from medseg.data.preprocess import to_channels
from medseg.errors import DataError

from .web_browser import chromium, random_png

SOURCES = Path(__file__).parents[2] / "src" / "medseg" / "export" / "web" / "page"
READ = """async ({ data, channels }) => {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  try {
    const picture = await readPicture(bytes, 1e6);
    const samples = channels ? toChannels(picture, channels) : picture.samples;
    let text = "";
    for (const sample of samples) text += String.fromCharCode(sample);
    const size = [picture.height, picture.width, channels || picture.channels];
    return { size, data: btoa(text) };
  } catch (error) {
    return { error: error instanceof Unreadable ? error.message : `bug: ${error}` };
  }
}"""


@pytest.fixture(scope="module")
def reader() -> Iterator[Page]:
    with chromium() as browser:
        page = browser.new_page()
        for name in ("png.js", "picture.js"):
            page.add_script_tag(path=SOURCES / name)
        yield page


def read(page: Page, data: bytes, channels: int = 0) -> NDArray[np.uint8] | str:
    """What the page makes of a file, or what it says of it."""
    encoded = base64.b64encode(data).decode()
    found = page.evaluate(READ, {"data": encoded, "channels": channels})
    if "error" in found:
        return str(found["error"])
    return np.frombuffer(base64.b64decode(found["data"]), np.uint8).reshape(found["size"])


def both(
    page: Page, data: bytes, folder: Path, channels: int = 0
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The page's pixels and medseg's."""
    file = folder / "image"
    file.write_bytes(data)
    expected = read_image(file)
    found = read(page, data, channels)
    assert not isinstance(found, str), found
    return found, to_channels(expected, channels) if channels else expected


def encoded(image: NDArray[np.uint8], kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    squeezed = image[:, :, 0] if image.shape[2] == 1 else image
    Image.fromarray(squeezed).save(file, kind, **options)
    return file.getvalue()


def photo(channels: int = 3, size: tuple[int, int] = (61, 83)) -> NDArray[np.uint8]:
    """Smooth shades with noise, as cameras make them."""
    random = np.random.default_rng(channels)
    rows, columns = np.mgrid[: size[0], : size[1]]
    waves = [np.sin(rows / (7 + c)) + np.cos(columns / (11 - c)) for c in range(channels)]
    shades = 128 + 50 * np.stack(waves, axis=2) + random.normal(0, 6, (*size, channels))
    return np.clip(shades, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(
    ("kind", "depth"),
    [(kind, depth) for kind in (0, 2, 3, 4, 6) for depth in (1, 2, 4, 8, 16)
     if kind == 0 or (depth >= 8 and kind != 3) or (kind == 3 and depth <= 8)],
)  # fmt: skip
def test_a_png_of_any_kind_has_the_same_bytes(
    reader: Page, tmp_path: Path, kind: int, depth: int, interlaced: bool
) -> None:
    colours = min(2**depth, 200) if kind == 3 else 0
    for seed, size in enumerate([(1, 1), (3, 2), (37, 21), (130, 45)]):
        data = random_png(seed, kind, depth, size, interlaced=interlaced, palette=colours)
        found, expected = both(reader, data, tmp_path)
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("values", ["narrow", "outliers", "constant", "two", "full"])
def test_16_bit_greys_are_scaled_by_the_same_percentiles(
    reader: Page, tmp_path: Path, values: str
) -> None:
    random = np.random.default_rng(1)
    image = {
        "narrow": random.integers(1000, 1400, (50, 41)),
        "outliers": np.where(random.random((50, 41)) < 0.002, 65535, random.integers(0, 99)),
        "constant": np.full((50, 41), 777),
        "two": np.pad([[5]], ((10, 20), (10, 30))),
        "full": random.integers(0, 65536, (173, 211)),
    }[values]
    file = io.BytesIO()
    Image.fromarray(image.astype(np.uint16)).save(file, "PNG")
    found, expected = both(reader, file.getvalue(), tmp_path)
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("orientation", range(9))
def test_exif_turns_png_and_jpeg_as_medseg_does(
    reader: Page, tmp_path: Path, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    for kind in ("PNG", "JPEG", "WEBP"):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = encoded(photo(), kind, exif=exif, **options)
        found, expected = both(reader, data, tmp_path)
        assert found.shape == expected.shape
        assert np.abs(found.astype(int) - expected).max() <= 2


def test_transparency_of_a_png_is_dropped_without_a_trace(reader: Page, tmp_path: Path) -> None:
    see_through = [(b"tRNS", bytes([0, 128, 255]))]
    data = random_png(3, 3, 8, (40, 30), palette=5, before=see_through)
    found, expected = both(reader, data, tmp_path)
    assert np.array_equal(found, expected)


def test_colour_profiles_and_gamma_are_ignored(reader: Page, tmp_path: Path) -> None:
    data = random_png(4, 2, 8, (40, 30), before=[(b"gAMA", (200_000).to_bytes(4, "big"))])
    found, expected = both(reader, data, tmp_path)
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_becomes_colour_and_colour_becomes_luma(
    reader: Page, tmp_path: Path, channels: int
) -> None:
    for kind in (0, 2):
        found, expected = both(reader, random_png(5, kind, 8, (97, 60)), tmp_path, channels)
        assert np.array_equal(found, expected)


@pytest.mark.parametrize(
    "options",
    [{"quality": 95}, {"quality": 60, "progressive": True}, {"subsampling": 0}, {"subsampling": 1}],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_jpeg_differs_by_a_rounding_at_most(
    reader: Page, tmp_path: Path, channels: int, options: dict[str, Any]
) -> None:
    found, expected = both(reader, encoded(photo(channels), "JPEG", **options), tmp_path)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= 2


@pytest.mark.parametrize(
    ("kind", "options"), [("BMP", {}), ("GIF", {}), ("WEBP", {"lossless": True})]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_other_lossless_files_have_the_same_bytes(
    reader: Page, tmp_path: Path, channels: int, kind: str, options: dict[str, Any]
) -> None:
    data = encoded(photo(channels), kind, **options)
    found, expected = both(reader, data, tmp_path, 3)
    assert np.array_equal(found, expected)


def test_a_lossy_webp_differs_by_a_rounding_at_most(reader: Page, tmp_path: Path) -> None:
    found, expected = both(reader, encoded(photo(), "WEBP", quality=80), tmp_path)
    assert np.abs(found.astype(int) - expected).max() <= 2


def animation(kind: str) -> bytes:
    file = io.BytesIO()
    frames = [Image.fromarray(photo()), Image.fromarray(255 - photo())]
    frames[0].save(file, kind, save_all=True, append_images=frames[1:])
    return file.getvalue()


DAMAGED = {
    "empty": b"",
    "text": b"these are no pixels",
    "short header": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0",
    "half a png": random_png(0, 2, 8, (64, 64))[:3000],
    "half a jpeg": encoded(photo(), "JPEG")[:1000],
    "half a bmp": encoded(photo(), "BMP")[:40],
    "half a webp": encoded(photo(), "WEBP")[:40],
    "flipped bit": random_png(0, 2, 8, (64, 64)).replace(b"IHDR\0\0\0\x40", b"IHDR\0\0\0\x41"),
    "too large": random_png(0, 0, 1, (1001, 1000)),
    "bad colour type": random_png(0, 2, 8, (8, 8)).replace(b"\x08\x02\0\0\0", b"\x08\x05\0\0\0"),
    "animated png": animation("PNG"),
    "animated gif": animation("GIF"),
    "animated webp": animation("WEBP"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_what_medseg_refuses_the_page_refuses(reader: Page, tmp_path: Path, name: str) -> None:
    (tmp_path / "image").write_bytes(DAMAGED[name])
    with pytest.raises(DataError):
        read_image(tmp_path / "image", max_pixels=1_000_000)
    said = read(reader, DAMAGED[name])
    assert isinstance(said, str)
    assert not said.startswith("bug")


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"II*\0" + bytes(200), "TIFF"),
        (bytes(128) + b"DICM" + bytes(100), "DICOM"),
        (b"\x1f\x8b" + bytes(100), ".nii.gz"),
        (bytes(344) + b"n+1\0", "NIfTI"),
        (encoded(photo(4), "TIFF"), "TIFF"),
    ],
)
def test_files_that_only_medseg_reads_are_named(reader: Page, data: bytes, word: str) -> None:
    said = read(reader, data)
    assert isinstance(said, str)
    assert word in said
    assert "medseg predict" in said


def test_cmyk_and_see_through_files_are_refused_rather_than_read_otherwise(reader: Page) -> None:
    file = io.BytesIO()
    Image.fromarray(photo()).convert("CMYK").save(file, "JPEG")
    assert "CMYK" in str(read(reader, file.getvalue()))
    assert "transparency" in str(read(reader, encoded(photo(4), "WEBP", lossless=True)))
