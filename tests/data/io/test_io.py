from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageOps

from medseg.data.io import (
    image_size,
    is_image_file,
    read_image,
    read_mask,
    write_mask,
)
from medseg.errors import DataError

from ..builders import disk, noise, png, png_bomb, save


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_lossless_image_keeps_its_pixels(tmp_path: Path, suffix: str, channels: int) -> None:
    image = noise(channels=channels)
    read = read_image(save(tmp_path / f"a{suffix}", image))
    assert read.shape == (16, 20, channels)
    assert np.array_equal(read.reshape(image.shape), image)


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".png", ".gif"])
def test_every_format_gives_rows_columns_channels(tmp_path: Path, suffix: str) -> None:
    read = read_image(save(tmp_path / f"a{suffix}", noise()))
    assert (read.shape, read.dtype) == ((16, 20, 3), np.uint8)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
def test_exif_orientation_is_applied_to_images_masks_and_sizes(
    tmp_path: Path, name: str, orientation: int
) -> None:
    options = {"lossless": True} if name.endswith("webp") else {}
    path = save(tmp_path / name, disk(), orientation=orientation, **options)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("L"))
    assert np.array_equal(read_image(path)[..., 0], expected)
    assert np.array_equal(read_mask(path).values, expected)
    assert image_size(path) == expected.shape


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_deflate"])
def test_the_orientation_of_a_tiff_is_applied_once(tmp_path: Path, compression: str | None) -> None:
    image = noise(channels=1)
    path = tmp_path / "a.tif"
    Image.fromarray(image).save(path, compression=compression, tiffinfo={274: 6})
    assert np.array_equal(read_image(path)[..., 0], np.rot90(image, -1))
    assert image_size(path) == (20, 16)


def test_damaged_exif_means_no_rotation(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", disk(), orientation=6)
    exif = b"Exif\0\0MM\0*\0\0\xff\xff"
    Image.fromarray(disk()).save(path, exif=exif)
    assert np.array_equal(read_mask(path).values, disk())


def test_alpha_is_dropped(tmp_path: Path) -> None:
    image = noise(channels=4)
    assert np.array_equal(read_image(save(tmp_path / "a.png", image)), image[..., :3])
    grey = np.ascontiguousarray(image[..., :2])
    Image.merge("LA", [Image.fromarray(grey[..., 0]), Image.fromarray(grey[..., 1])]).save(
        tmp_path / "b.png"
    )
    assert np.array_equal(read_image(tmp_path / "b.png")[..., 0], grey[..., 0])


def test_a_cmyk_jpeg_becomes_rgb(tmp_path: Path) -> None:
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 255
    Image.fromarray(red).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    read = read_image(tmp_path / "a.jpg")
    assert read.shape == (8, 8, 3)
    assert np.abs(read.astype(int) - red).max() < 8


def test_a_palette_gives_colours_to_images_and_indices_to_masks(tmp_path: Path) -> None:
    indices = np.array([[0, 1], [2, 1]], np.uint8)
    picture = Image.fromarray(indices, "P")
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 255])
    picture.save(tmp_path / "a.png", transparency=bytes([0, 128, 255]))
    mask = read_mask(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").tolist()[0] == [[0, 0, 0], [255, 0, 0]]
    assert np.array_equal(mask.values, indices)
    assert mask.palette is not None
    assert mask.palette[:3].tolist() == [0, 0xFF0000, 0x0000FF]


def test_one_bit_images_are_black_and_white_and_masks_0_and_1(tmp_path: Path) -> None:
    save(tmp_path / "a.png", disk() > 0)
    assert np.array_equal(read_image(tmp_path / "a.png")[..., 0], disk())
    assert np.array_equal(read_mask(tmp_path / "a.png").values, disk() // 255)


def test_a_four_bit_mask_keeps_its_values(tmp_path: Path) -> None:
    values = np.array([[0, 1, 2, 15]], np.uint8)
    path = png(tmp_path / "a.png", 4, 1, 4, bytes([0, 0x01, 0x2F]))
    assert np.array_equal(read_mask(path).values, values)
    assert np.array_equal(read_image(path)[..., 0], values * 17)


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.int32, np.float32])
@pytest.mark.parametrize("colours", [1, 3])
def test_deep_images_fill_the_range_from_their_own_percentiles(
    tmp_path: Path, dtype: type, colours: int
) -> None:
    ramp = np.repeat(np.linspace(100, 4195, 50 * 40).reshape(50, 40, 1), colours, axis=2)
    ramp[0, 0], ramp[0, 1] = 0, 30_000
    photometric = "rgb" if colours == 3 else "minisblack"
    stored = ramp.squeeze().astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric=photometric)
    read = read_image(tmp_path / "a.tif")
    low, high = np.percentile(stored, (0.1, 99.9))
    expected = np.clip((stored.astype(float) - low) / (high - low) * 255, 0, 255)
    assert read.shape == (50, 40, colours)
    assert np.abs(read.squeeze() - expected).max() <= 0.5 + 1e-6


def test_a_constant_deep_image_is_black(tmp_path: Path) -> None:
    assert not read_image(save(tmp_path / "a.png", np.full((4, 4), 900, np.uint16))).any()


def test_a_few_bright_pixels_on_black_are_kept(tmp_path: Path) -> None:
    stars = np.zeros((200, 200), np.uint16)
    stars[3, 4] = 1000
    assert read_image(save(tmp_path / "a.png", stars))[3, 4, 0] == 255


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_float_tiff_with_nan_or_infinity_is_refused(tmp_path: Path, bad: float) -> None:
    values = np.ones((4, 4), np.float32)
    values[1, 2] = bad
    tifffile.imwrite(tmp_path / "a.tif", values)
    for read in (read_image, read_mask):
        with pytest.raises(DataError, match=r"a\.tif: 1 pixels are NaN"):
            read(tmp_path / "a.tif")


def test_a_float_mask_must_hold_whole_numbers(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", disk().astype(np.float32))
    assert np.array_equal(read_mask(tmp_path / "a.tif").values, disk())
    tifffile.imwrite(tmp_path / "a.tif", disk() / np.float32(510))
    with pytest.raises(DataError, match="fractions"):
        read_mask(tmp_path / "a.tif")


def test_negative_mask_values_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", -disk().astype(np.int16))
    with pytest.raises(DataError, match="from -255 to 0"):
        read_mask(tmp_path / "a.tif")


def test_planar_and_inverted_tiffs_look_as_they_should(tmp_path: Path) -> None:
    image = noise()
    tifffile.imwrite(
        tmp_path / "a.tif", np.moveaxis(image, -1, 0), photometric="rgb", planarconfig="separate"
    )
    assert np.array_equal(read_image(tmp_path / "a.tif"), image)
    tifffile.imwrite(tmp_path / "b.tif", image[..., 0], photometric="miniswhite")
    assert np.array_equal(read_image(tmp_path / "b.tif")[..., 0], 255 - image[..., 0])


def test_pages_and_frames_are_no_single_picture(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((3, 8, 8), np.uint8), photometric="minisblack")
    frames = [Image.fromarray(noise(seed)) for seed in range(3)]
    frames[0].save(tmp_path / "b.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "c.png", save_all=True, append_images=frames[1:])
    for name, found in (
        ("a.tif", "is a volume of 3 slices"),
        ("b.gif", "holds several frames"),
        ("c.png", "holds several frames"),
    ):
        with pytest.raises(DataError, match=f"{name}: {found}"):
            read_image(tmp_path / name)


def test_a_multispectral_tiff_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif",
        np.zeros((8, 8, 5), np.uint8),
        photometric="minisblack",
        planarconfig="contig",
    )
    with pytest.raises(DataError, match="5 channels"):
        read_image(tmp_path / "a.tif")


def test_a_pixel_bomb_is_refused_from_its_header(tmp_path: Path) -> None:
    bomb = png_bomb(tmp_path / "bomb.png")
    assert bomb.stat().st_size < 100_000
    assert image_size(bomb) == (20_000, 20_000)
    for read in (read_image, read_mask):
        with pytest.raises(DataError, match="20000 x 20000 pixels, more than the 100,000,000"):
            read(bomb)


def test_the_pixel_limit_can_be_set(tmp_path: Path) -> None:
    for name in ("a.png", "a.tif"):
        path = save(tmp_path / name, disk())
        assert read_image(path, max_pixels=320).shape == (16, 20, 1)
        with pytest.raises(DataError, match="more than the 319"):
            read_image(path, max_pixels=319)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp", ".gif", ".tif"])
def test_a_file_cut_anywhere_is_an_error_that_names_it(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"cut{suffix}", noise(size=(40, 40)))
    whole = path.read_bytes()
    for kept in (0, 3, 9, len(whole) // 4, len(whole) // 2, len(whole) - 200):
        path.write_bytes(whole[:kept])
        with pytest.raises(DataError, match=rf"cut\{suffix}"):
            read_image(path)


@given(data=st.data())
def test_flipped_bytes_give_an_image_or_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    suffix = data.draw(st.sampled_from(["PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF"]))
    buffer = io.BytesIO()
    Image.fromarray(noise()).save(buffer, suffix)
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(4, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "flipped"
    path.write_bytes(bytes(content))
    with contextlib.suppress(DataError):
        assert read_image(path, max_pixels=10_000).dtype == np.uint8
        assert read_mask(path, max_pixels=10_000).values.ndim == 2


def test_what_is_not_an_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("sorry, moved")
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder.png").mkdir()
    expected = {
        "text.png": "is not a PNG",
        "empty.png": "is empty",
        "folder.png": "is a folder",
        "absent.png": "does not exist",
    }
    for name, words in expected.items():
        for read in (read_image, read_mask, image_size):
            with pytest.raises(DataError, match=f"{name}: {words}"):
                read(tmp_path / name)


def test_content_and_not_the_suffix_decides(tmp_path: Path) -> None:
    save(tmp_path / "a.jpg", disk())
    (tmp_path / "a.jpg").rename(tmp_path / "a.png")
    assert read_mask(tmp_path / "a.png").lossy


def test_lossy_masks_are_known(tmp_path: Path) -> None:
    assert read_mask(save(tmp_path / "a.webp", disk())).lossy
    assert not read_mask(save(tmp_path / "b.webp", disk(), lossless=True)).lossy
    assert not read_mask(save(tmp_path / "c.png", disk())).lossy


def test_colours_are_packed_and_equal_channels_are_grey(tmp_path: Path) -> None:
    colours = np.zeros((2, 2, 3), np.uint8)
    colours[0, 0] = 1, 2, 3
    mask = read_mask(save(tmp_path / "a.png", colours))
    assert (mask.rgb, mask.values[0, 0]) == (True, 0x010203)
    grey = read_mask(save(tmp_path / "b.png", np.repeat(disk()[..., None], 4, axis=2)))
    assert not grey.rgb
    assert np.array_equal(grey.values, disk())


@given(
    values=arrays.arrays(
        st.sampled_from([np.uint8, np.uint16]), arrays.array_shapes(min_dims=2, max_dims=2)
    )
)
def test_a_written_mask_reads_back(
    tmp_path_factory: pytest.TempPathFactory, values: np.ndarray
) -> None:
    path = tmp_path_factory.getbasetemp() / "mask.png"
    write_mask(path, values)
    assert np.array_equal(read_mask(path).values, values)


def test_a_written_colour_mask_reads_back(tmp_path: Path) -> None:
    write_mask(tmp_path / "new" / "a.png", noise())
    assert np.array_equal(read_image(tmp_path / "new" / "a.png"), noise())


def test_masks_that_cannot_be_stored_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"ends in \.png"):
        write_mask(tmp_path / "a.jpg", disk())
    for bad in (
        disk() - 1.0,
        np.array([[70_000]]),
        np.array([[-1]]),
        np.zeros((2, 2, 3)),
        disk()[0],
    ):
        with pytest.raises(DataError, match="cannot be written"):
            write_mask(tmp_path / "a.png", bad)
    assert not list(tmp_path.iterdir())


def test_a_grey_mask_stays_grey_through_lossy_compression(tmp_path: Path) -> None:
    colour = np.repeat(disk((64, 64), radius=20)[..., None], 3, axis=2)
    for name in ("a.webp", "a.jpg"):
        assert not read_mask(save(tmp_path / name, colour, quality=60)).rgb


def test_hidden_files_and_other_suffixes_are_not_images() -> None:
    assert is_image_file(Path("a/b.PNG"))
    assert not any(is_image_file(Path(name)) for name in ("._b.png", ".b.png", "b.txt", "png"))
