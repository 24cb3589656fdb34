from __future__ import annotations

import contextlib
import gzip
import io
import sys
import threading
from collections.abc import Callable
from itertools import permutations, product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nibabel
import nrrd
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from medseg.data.io import is_image_file, read_image, read_mask, stem
from medseg.data.io.pixels import scale_to_uint8
from medseg.data.io.recent import Recent
from medseg.data.io.volume import (
    is_volume,
    read_header,
    read_labels,
    read_pictures,
    volume_files,
    write_mask_like,
    written_suffix,
)
from medseg.errors import DataError

from ..builders import noise, save
from ..volumes import AXIAL, ramp, save_mha, save_nifti, save_nrrd, save_pages

SAVERS: dict[str, Callable[[Path, NDArray[Any], NDArray[Any]], Path]] = {
    "a.nii": save_nifti,
    "a.nii.gz": save_nifti,
    "a.nrrd": save_nrrd,
    "a.nhdr": save_nrrd,
    "a.mha": save_mha,
    "a.mhd": save_mha,
}
OBLIQUE = np.array(
    [
        [0.6 * 2, -0.8 * 3, 0, -10.25],
        [0.8 * 2, 0.6 * 3, 0, 4.5],
        [0, 0, -7, 33.125],
        [0, 0, 0, 1],
    ]
)


@pytest.mark.parametrize("name", SAVERS)
def test_every_format_tells_the_same_voxels_at_the_same_places(tmp_path: Path, name: str) -> None:
    values = ramp((5, 6, 3), np.uint8)
    files = volume_files(SAVERS[name](tmp_path / name, values, OBLIQUE))
    header = read_header(files)
    assert is_volume(files[0])
    assert header.affine is not None
    assert np.allclose(header.affine, OBLIQUE, atol=1e-6)
    assert np.array_equal(header.slicing.join(read_pictures(files)[..., 0]), values)
    assert np.array_equal(header.slicing.join(read_labels(files).values), values)


ORIENTATIONS = list(product(permutations(range(3)), product((1, -1), repeat=3)))


@settings(max_examples=25)
@given(
    st.sampled_from(ORIENTATIONS),
    st.tuples(*[st.integers(1, 5)] * 3),
    st.tuples(*[st.sampled_from([0.625, 1, 3.5])] * 3),
    st.sampled_from(list(SAVERS)),
    st.integers(0, 9),
)
def test_a_mask_of_slices_comes_back_on_the_grid_of_its_image(
    turn: tuple[tuple[int, ...], tuple[int, ...]],
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    name: str,
    seed: int,
) -> None:
    axes, signs = turn
    affine = np.eye(4)
    for column, (axis, sign) in enumerate(zip(axes, signs, strict=True)):
        affine[:3, column] = 0
        affine[axis, column] = sign * spacing[column]
    affine[:3, 3] = (-12.5, 80, 3.25)
    mask = np.random.default_rng(seed).integers(0, 3, shape).astype(np.uint8)
    with TemporaryDirectory() as folder:
        image = volume_files(SAVERS[name](Path(folder) / name, ramp(shape), affine))
        truth = volume_files(SAVERS[name](Path(folder) / f"mask{name}", mask, affine))
        written = Path(folder) / f"written{written_suffix(image)}"
        write_mask_like(written, read_labels(truth).values, image)
        if written.suffix == ".gz":
            again = nibabel.load(written)
            stored, place = np.asarray(again.dataobj), again.affine
            assert np.array_equal(place, nibabel.load(image[0]).affine)
        elif written.suffix == ".nrrd":
            stored, entries = nrrd.read(str(written), index_order="F")
            place = read_header((written,)).affine
            assert entries["space"] == "left-posterior-superior"
        else:
            header = read_header((written,))
            stored, place = header.slicing.join(read_labels((written,)).values), header.affine
        assert stored.dtype == np.uint8
        assert np.array_equal(stored, mask)
        assert np.allclose(place, affine, atol=1e-6)


def test_a_nifti_mask_keeps_both_transforms_and_their_codes(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(ramp((4, 5, 3)), AXIAL)
    image.header.set_slope_inter(2, -7)
    image.set_sform(AXIAL, 4)
    shifted = AXIAL.copy()
    shifted[0, 3] = 5
    image.set_qform(shifted, 2)
    nibabel.save(image, tmp_path / "a.nii.gz")
    like = (tmp_path / "a.nii.gz",)
    write_mask_like(tmp_path / "m.nii.gz", np.full((3, 5, 4), 300, np.uint16), like)
    mask = nibabel.load(tmp_path / "m.nii.gz")
    assert (int(mask.header["sform_code"]), int(mask.header["qform_code"])) == (4, 2)
    assert np.array_equal(mask.get_sform(), AXIAL)
    assert np.array_equal(mask.get_qform(), shifted)
    assert mask.get_data_dtype() == np.uint16
    assert np.asarray(mask.dataobj).max() == 300
    assert mask.header.get_slope_inter() in ((None, None), (1, 0))


def test_the_same_mask_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.nii.gz", "a.nrrd", "a.mha"):
        like = volume_files(SAVERS[name](tmp_path / name, ramp(), AXIAL))
        mask = np.ones((3, 5, 4), np.uint8)
        written = [tmp_path / f"{n}{written_suffix(like)}" for n in "xy"]
        for path in written:
            write_mask_like(path, mask, like)
        assert written[0].read_bytes() == written[1].read_bytes()


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_pages_of_a_tiff_are_slices(tmp_path: Path, compression: str | None) -> None:
    pages = ramp((4, 6, 5), np.uint8)
    path = save_pages(tmp_path / "a.tif", pages, compression=compression)
    assert np.array_equal(read_pictures((path,))[..., 0], pages)
    write_mask_like(tmp_path / "m.tif", pages % 3, (path,))
    assert np.array_equal(tifffile.imread(tmp_path / "m.tif"), pages % 3)


def test_imagej_stacks_and_lzw_pages_are_read(tmp_path: Path) -> None:
    from PIL import Image

    pages = ramp((3, 6, 5), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pages, imagej=True, metadata={"axes": "ZYX"})
    frames = [Image.fromarray(page) for page in pages]
    frames[0].save(
        tmp_path / "b.tif", save_all=True, append_images=frames[1:], compression="tiff_lzw"
    )
    for name in ("a.tif", "b.tif"):
        assert is_volume(tmp_path / name)
        assert np.array_equal(read_pictures((tmp_path / name,))[..., 0], pages)


def test_pages_in_colour_stay_in_colour(tmp_path: Path) -> None:
    pages = noise(size=(4, 6)).reshape(2, 2, 6, 3)
    tifffile.imwrite(tmp_path / "a.tif", pages, photometric="rgb")
    assert np.array_equal(read_pictures((tmp_path / "a.tif",)), pages)


def test_pages_with_a_palette_are_colours_in_images_and_indices_in_masks(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (3, 256)).astype(np.uint16)
    pages = ramp((3, 6, 5), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pages, photometric="palette", colormap=colours * 257)
    files = (tmp_path / "a.tif",)
    assert np.array_equal(read_pictures(files), colours.T[pages])
    assert np.array_equal(read_labels(files).values, pages)


def test_channels_as_pages_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif", ramp((3, 6, 5), np.uint8), imagej=True, metadata={"axes": "CYX"}
    )
    with pytest.raises(DataError, match="has the axes CYX"):
        read_header((tmp_path / "a.tif",))


def test_single_pictures_are_no_volumes(tmp_path: Path) -> None:
    save(tmp_path / "a.png", noise())
    save(tmp_path / "b.tif", noise())
    tifffile.imwrite(tmp_path / "c.tif", noise(), description="a photo")
    for name in ("a.png", "b.tif", "c.tif", "missing.nii"):
        assert not is_volume(tmp_path / name)


def test_intensities_are_scaled_over_the_whole_volume(tmp_path: Path) -> None:
    values = ramp((8, 8, 4), np.float32)
    files = (save_nifti(tmp_path / "a.nii", values),)
    whole = read_header(files).slicing.cut(scale_to_uint8(values))
    assert np.array_equal(read_pictures(files)[..., 0], whole)


def test_slope_and_intercept_of_a_nifti_count(tmp_path: Path) -> None:
    values = ramp((2, 3, 2))
    path = save_nifti(tmp_path / "a.nii", values)
    raw = bytearray(path.read_bytes())
    raw[112:120] = np.array([2, 1], "<f4").tobytes()
    path.write_bytes(raw)
    labels = read_header((path,)).slicing.join(read_labels((path,)).values)
    assert np.array_equal(labels, 2 * values + 1)


def test_rgb_niftis_are_colour_images(tmp_path: Path) -> None:
    colours = noise(size=(4, 15)).reshape(4, 5, 3, 3)
    voxels = colours.view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    files = (save_nifti(tmp_path / "a.nii.gz", voxels),)
    header = read_header(files)
    assert np.array_equal(header.slicing.join(read_pictures(files)), colours)
    with pytest.raises(DataError, match="holds colours"):
        read_labels(files)


def test_a_fourth_axis_of_one_is_none(tmp_path: Path) -> None:
    files = (save_nifti(tmp_path / "a.nii.gz", ramp((4, 5, 3, 1))),)
    assert read_header(files).shape == (4, 5, 3)
    assert read_header(files).channels is None


def test_a_flat_nifti_is_a_picture(tmp_path: Path) -> None:
    values = ramp((4, 5), np.uint8)
    path = save_nifti(tmp_path / "a.nii.gz", values)
    assert read_image(path).shape == (5, 4, 1)
    assert np.array_equal(read_mask(path).values, values[::-1, ::-1].T)
    write_mask_like(tmp_path / "m.nii.gz", read_mask(path).values[None].astype(np.uint8), (path,))
    assert np.array_equal(np.asarray(nibabel.load(tmp_path / "m.nii.gz").dataobj), values)


def test_a_volume_where_one_picture_is_needed_is_an_error(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii.gz", ramp())
    with pytest.raises(DataError, match="is a volume of 3 slices where one picture is needed"):
        read_image(path)
    path = save_nifti(tmp_path / "b.nii.gz", ramp((4, 5, 3, 2)))
    with pytest.raises(DataError, match=r"is 4D \(4 x 5 x 3 x 2\) where 3D is expected"):
        read_image(path)


def test_the_content_decides_not_the_name(tmp_path: Path) -> None:
    packed = save_nifti(tmp_path / "a.nii.gz", ramp())
    wrong = tmp_path / "b.nrrd"
    wrong.write_bytes(packed.read_bytes())
    assert np.array_equal(read_pictures((wrong,)), read_pictures((packed,)))


def test_big_endian_compressed_and_padded_metaimages_are_read(tmp_path: Path) -> None:
    values = ramp((4, 5, 3))
    plain = read_pictures((save_mha(tmp_path / "a.mha", values),))
    packed = save_mha(tmp_path / "b.mha", values, packed=True)
    assert np.array_equal(read_pictures((packed,)), plain)
    big = save_mha(tmp_path / "c.mha", values.byteswap())
    big.write_bytes(big.read_bytes().replace(b"OrderMSB = False", b"OrderMSB = True"))
    assert np.array_equal(read_pictures((big,)), plain)
    padded = save_mha(tmp_path / "d.mhd", values)
    padded.write_bytes(padded.read_bytes().replace(b"DimSize", b"HeaderSize = -1\nDimSize"))
    padded.with_suffix(".raw").write_bytes(b"before it" + values.tobytes(order="F"))
    assert np.array_equal(read_pictures(volume_files(padded)), plain)


@pytest.mark.parametrize("name", ["a.mhd", "a.nhdr"])
def test_a_header_whose_voxels_are_missing_names_their_file(tmp_path: Path, name: str) -> None:
    files = volume_files(SAVERS[name](tmp_path / name, ramp(), AXIAL))
    files[1].unlink()
    with pytest.raises(DataError, match="does not exist") as caught:
        read_header(files)
    assert caught.value.where == str(files[1])


def test_colours_and_channels_of_a_metaimage(tmp_path: Path) -> None:
    colours = noise(size=(4, 15)).reshape(4, 5, 3, 3)
    path = save_mha(tmp_path / "a.mha", colours[..., 0])
    text, _ = path.read_bytes().split(b"LOCAL\n")
    text = text.replace(b"DimSize", b"ElementNumberOfChannels = 3\nDimSize")
    path.write_bytes(text + b"LOCAL\n" + np.moveaxis(colours, 3, 0).tobytes(order="F"))
    header = read_header((path,))
    assert np.array_equal(header.slicing.join(read_pictures((path,))), colours)


@pytest.mark.parametrize("name", SAVERS)
def test_a_file_that_is_cut_off_is_one_clear_error(tmp_path: Path, name: str) -> None:
    path = SAVERS[name](tmp_path / name, ramp((20, 20, 20)), AXIAL)
    files = volume_files(path)
    last = files[-1]
    last.write_bytes(last.read_bytes()[:-2000])
    with pytest.raises(DataError, match=r"incomplete|damaged") as caught:
        read_pictures(files)
    assert caught.value.where in {str(file) for file in files}


def test_a_nifti_that_promises_more_than_it_can_hold_is_refused(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii.gz", np.zeros((4, 4, 4), np.uint8))
    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw[42:48] = np.array([900, 900, 900], "<i2").tobytes()
    path.write_bytes(gzip.compress(bytes(raw)))
    with pytest.raises(DataError, match="promises 729,000,000 bytes"):
        read_pictures((path,))


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (np.full((3, 3, 3), 0.5, np.float32), "holds fractions"),
        (np.full((3, 3, 3), -1, np.int16), "holds values from -1 to -1"),
        (np.full((3, 3, 3), -1, np.int8), "holds values from -1 to -1"),
        (np.full((3, 3, 3), np.nan, np.float32), "27 pixels are NaN or infinite"),
        (np.zeros((3, 3, 3, 2), np.uint8), "is 4D"),
    ],
)
def test_what_is_no_mask_is_refused(tmp_path: Path, values: NDArray[Any], found: str) -> None:
    path = save_nifti(tmp_path / "a.nii.gz", values)
    with pytest.raises(DataError, match=found):
        read_labels((path,))


def test_float_masks_of_whole_numbers_are_masks(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii.gz", np.full((3, 3, 3), 2, np.float32))
    assert read_labels((path,)).values.dtype == np.uint8
    assert (read_labels((path,)).values == 2).all()


@pytest.mark.parametrize(("package", "name"), [("nibabel", "a.nii.gz"), ("nrrd", "a.nrrd")])
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, name: str
) -> None:
    path = SAVERS[name](tmp_path / name, ramp(), AXIAL)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DataError, match=r"pip install 'medseg\[volumes\]'") as caught:
        read_header((path,))
    assert caught.value.where == str(path)


def test_names_of_volumes_are_known(tmp_path: Path) -> None:
    names = ("a.nii", "a.NII.GZ", "a.nrrd", "a.nhdr", "a.mha", "a.mhd", "a.dcm", "a.tif")
    assert all(is_image_file(tmp_path / name) for name in names)
    assert not any(is_image_file(tmp_path / name) for name in ("a.gz", "._a.nii.gz", "a.raw"))


def test_two_suffixes_of_a_packed_nifti_are_one() -> None:
    assert [stem(n) for n in ("a.b.nii.gz", "x/a.NII.GZ", "a.b.nii", "a.png", "a.gz")] == [
        "a.b", "x/a", "a.b", "a", "a",
    ]  # fmt: skip


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii", np.zeros((3, 3, 3), np.uint8))
    assert read_labels((path,)).values.max() == 0
    save_nifti(path, np.full((3, 3, 4), 5, np.uint8))
    assert read_labels((path,)).values.max() == 5


def test_threads_wait_for_the_one_that_decodes() -> None:
    made: list[int] = []
    started = threading.Barrier(4)

    def make() -> bytes:
        made.append(1)
        return b"value"

    kept: Recent[bytes] = Recent(10, len)

    def ask() -> None:
        started.wait()
        assert kept.get("key", make) == b"value"

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1]


def test_what_was_asked_for_longest_ago_is_forgotten_first() -> None:
    made: list[str] = []

    def value(name: str) -> Callable[[], bytes]:
        return lambda: made.append(name) or b"12345"  # type: ignore[func-returns-value]

    kept: Recent[bytes] = Recent(10, len)
    for name in ("a", "b", "a", "c", "a", "b"):
        kept.get(name, value(name))
    assert made == ["a", "b", "c", "b"]


def test_an_error_is_remembered_and_raised_again() -> None:
    made: list[int] = []

    def make() -> bytes:
        made.append(1)
        raise DataError("file", "is damaged", "Copy it")

    kept: Recent[bytes] = Recent(10, len)
    for _ in range(3):
        with pytest.raises(DataError, match="is damaged"):
            kept.get("key", make)
    assert made == [1]


def _samples() -> dict[str, bytes]:
    with TemporaryDirectory() as folder:
        found = {}
        for name, saver in SAVERS.items():
            if name not in ("a.nhdr", "a.mhd"):
                found[name] = saver(Path(folder) / name, ramp((3, 4, 2)), AXIAL).read_bytes()
        path = save_pages(Path(folder) / "a.tif", ramp((3, 4, 2), np.uint8))
        found["a.tif"] = path.read_bytes()
    return found


SAMPLES = _samples()


@settings(max_examples=60)
@given(
    st.sampled_from(sorted(SAMPLES)),
    st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), max_size=8),
    st.integers(0, 700),
)
def test_damage_of_any_kind_is_a_message(
    name: str, changes: list[tuple[int, int]], cut: int
) -> None:
    data = bytearray(SAMPLES[name])
    if name.endswith(".gz"):
        data = bytearray(gzip.decompress(bytes(data)))
    for place, value in changes:
        data[place % len(data)] = value
    whole = bytes(data[: len(data) - cut % len(data)])
    if name.endswith(".gz"):
        stream = io.BytesIO()
        with gzip.GzipFile(fileobj=stream, mode="wb") as packed:
            packed.write(whole)
        whole = stream.getvalue()
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(whole)
        for read in (read_image, read_mask, volume_files):
            with contextlib.suppress(DataError):
                read(path)
        if is_volume(path):
            for read_volume in (read_header, read_pictures, read_labels):
                with contextlib.suppress(DataError):
                    read_volume((path,))
