from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import JPEGLSLossless, RLELossless

from medseg.data.io import read_image, read_mask
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

from ..builders import disk, noise
from ..volumes import dicom_series, dicom_slice, ramp

OBLIQUE = (0.8, 0.6, 0.0, 0.0, 0.0, -1.0)


def stored(folder: Path) -> Any:
    """The slices (S, H, W) of a series in the order of their places, not turned upright."""
    files = volume_files(folder)
    return read_header(files).slicing.join(read_pictures(files)[..., 0]).transpose(2, 1, 0)


@given(st.permutations(range(4)))
@settings(max_examples=10)
def test_slices_are_ordered_by_their_place_not_by_name_or_number(names: list[int]) -> None:
    slices = ramp((4, 5, 6), np.uint8)
    with TemporaryDirectory() as folder:
        series = dicom_series(Path(folder), slices, names=names, directions=OBLIQUE)
        assert np.array_equal(stored(series), slices)


def test_the_affine_is_that_of_the_standard(tmp_path: Path) -> None:
    folder = dicom_series(
        tmp_path / "s", ramp((3, 5, 6), np.uint8), step=4, directions=OBLIQUE, spacing=(2, 3)
    )
    affine = read_header(volume_files(folder)).affine
    assert affine is not None
    # PS3.3 C.7.6.2.1.1: a column further is PixelSpacing[1] along the first direction, in LPS.
    origin, row, column = np.array([-10, -20, 30]), np.array(OBLIQUE[:3]), np.array(OBLIQUE[3:])
    place = origin + row * 3 * 5 + column * 2 * 4 + np.cross(row, column) * 4 * 2
    assert np.allclose(affine @ [5, 4, 2, 1], [-place[0], -place[1], place[2], 1])


def test_axial_slices_are_shown_as_they_are_stored(tmp_path: Path) -> None:
    slices = ramp((3, 5, 6), np.uint8)
    files = volume_files(dicom_series(tmp_path / "s", slices))
    assert np.array_equal(read_pictures(files)[..., 0], slices)


def test_a_mask_of_a_series_is_a_nifti_at_the_same_place(tmp_path: Path) -> None:
    files = volume_files(
        dicom_series(tmp_path / "s", ramp((3, 5, 6), np.int16), directions=OBLIQUE)
    )
    mask = np.random.default_rng(0).integers(0, 3, (3, 5, 6)).astype(np.uint8)
    header = read_header(files)
    upright = header.slicing.cut(mask.transpose(2, 1, 0))
    assert written_suffix(files) == ".nii.gz"
    write_mask_like(tmp_path / "m.nii.gz", upright, files)
    image = nibabel.load(tmp_path / "m.nii.gz")
    assert np.array_equal(np.asarray(image.dataobj), mask.transpose(2, 1, 0))
    assert np.allclose(image.affine, header.affine, atol=1e-5)


def test_rescale_window_and_monochrome1_are_applied(tmp_path: Path) -> None:
    pixels = np.array([[0, 1024, 1064, 1104, 4000]], np.int16)
    tags = {"RescaleSlope": 1, "RescaleIntercept": -1024, "WindowCenter": 40, "WindowWidth": 81}
    path = dicom_slice(tmp_path / "a.dcm", pixels, **tags)
    # PS3.3 C.11.2.1.2: (x - (c - 0.5)) / (w - 1) + 0.5, here 0 at -0.5 and 1 at 79.5.
    shown = np.rint(np.clip((pixels - 1024.0 - 39.5) / 80 + 0.5, 0, 1) * 255)
    assert np.array_equal(read_image(path)[..., 0], shown)
    tags |= {"PhotometricInterpretation": "MONOCHROME1"}
    path = dicom_slice(tmp_path / "b.dcm", pixels, **tags)
    assert np.array_equal(read_image(path)[..., 0], 255 - shown)


def test_of_several_windows_the_first_counts(tmp_path: Path) -> None:
    pixels = np.array([[0, 40, 80, 100]], np.int16)
    one = dicom_slice(tmp_path / "a.dcm", pixels, WindowCenter=40, WindowWidth=80)
    two = dicom_slice(tmp_path / "b.dcm", pixels, WindowCenter=[40, 9], WindowWidth=[80, 3])
    assert np.array_equal(read_image(one), read_image(two))


def test_windows_that_differ_between_slices_are_not_used(tmp_path: Path) -> None:
    slices = ramp((2, 5, 6), np.int16)
    for index, pixels in enumerate(slices):
        dicom_slice(
            tmp_path / "s" / f"{index}.dcm", pixels, (0, 0, 5 * index),
            WindowCenter=10 * (index + 1), WindowWidth=20,
        )  # fmt: skip
    plain = dicom_series(tmp_path / "t", slices)
    assert np.array_equal(stored(tmp_path / "s"), stored(plain))


def test_a_mask_is_not_windowed(tmp_path: Path) -> None:
    mask = disk(value=3)
    path = dicom_slice(tmp_path / "a.dcm", mask, WindowCenter=1, WindowWidth=2)
    assert np.array_equal(read_mask(path).values, mask)


def test_a_single_image_gives_a_png_in_its_own_pixels(tmp_path: Path) -> None:
    mask = disk()
    files = (dicom_slice(tmp_path / "a.dcm", noise(channels=1), directions=(-1, 0, 0, 0, 0, -1)),)
    assert written_suffix(files) == ".png"
    upright = read_header(files).slicing.cut(mask.T[..., None])
    write_mask_like(tmp_path / "m.png", upright, files)
    assert np.array_equal(read_mask(tmp_path / "m.png").values, mask)


def test_a_radiograph_without_a_place_is_a_picture(tmp_path: Path) -> None:
    image = noise(channels=1)
    none = {"ImagePositionPatient": None, "ImageOrientationPatient": None}
    path = dicom_slice(tmp_path / "a.dcm", image, **none)
    assert np.array_equal(read_image(path)[..., 0], image)


def test_colour_images_are_colour(tmp_path: Path) -> None:
    image = noise()
    path = dicom_slice(
        tmp_path / "a.dcm", image, SamplesPerPixel=3, PhotometricInterpretation="RGB",
        PlanarConfiguration=0,
    )  # fmt: skip
    assert np.array_equal(read_image(path), image)


def test_a_preamble_of_another_format_does_not_mislead(tmp_path: Path) -> None:
    image = noise(channels=1)
    path = dicom_slice(tmp_path / "a.dcm", image)
    path.write_bytes(b"II*\0" + path.read_bytes()[4:])
    assert np.array_equal(read_image(path)[..., 0], image)


def test_frames_are_slices(tmp_path: Path) -> None:
    frames = ramp((4, 5, 6), np.uint8)
    none = {"ImagePositionPatient": None, "ImageOrientationPatient": None}
    path = dicom_slice(
        tmp_path / "a.dcm", frames[0], NumberOfFrames=4, PixelData=frames.tobytes(), **none
    )
    assert np.array_equal(read_pictures((path,))[..., 0], frames)


def test_frames_with_places_are_ordered_by_them(tmp_path: Path) -> None:
    frames = ramp((3, 5, 6), np.uint8)
    order = [2, 0, 1]

    def group(index: int) -> Dataset:
        place, turn, measures, frame = Dataset(), Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = [0, 0, 5 * index]
        turn.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        measures.PixelSpacing = [2, 3]
        frame.PlanePositionSequence = [place]
        frame.PlaneOrientationSequence = [turn]
        frame.PixelMeasuresSequence = [measures]
        return frame

    path = dicom_slice(
        tmp_path / "a.dcm",
        frames[0],
        NumberOfFrames=3,
        PixelData=frames[order].tobytes(),
        PerFrameFunctionalGroupsSequence=[group(index) for index in order],
    )
    assert np.array_equal(read_pictures((path,))[..., 0], frames)
    affine = read_header((path,)).affine
    assert affine is not None
    assert np.allclose(np.linalg.norm(affine[:3, :3], axis=0), [3, 2, 5])


def test_compression_with_a_decoder_is_read(tmp_path: Path) -> None:
    image = disk()
    path = dicom_slice(tmp_path / "a.dcm", image)
    dataset = pydicom.dcmread(path)
    dataset.compress(RLELossless)
    dataset.save_as(path)
    assert np.array_equal(read_mask(path).values, image)


def test_the_patient_is_known(tmp_path: Path) -> None:
    folder = dicom_series(tmp_path / "s", ramp((2, 5, 6), np.uint8), PatientID="Müller^1")
    assert read_header(volume_files(folder)).patient == "Müller^1"


def _other_series(folder: Path) -> None:
    for number in (10, 11):
        dicom_slice(folder / f"{number}.dcm", noise(channels=1), (0, 0, number), series="9.9")


def _turned(folder: Path) -> None:
    dicom_slice(folder / "9.dcm", noise(channels=1), (0, 0, 99), directions=(0, 1, 0, 0, 0, 1))


def _smaller(folder: Path) -> None:
    dicom_slice(folder / "9.dcm", noise(channels=1)[:9], (-10, -20, 45))


def _without_place(folder: Path) -> None:
    dicom_slice(folder / "9.dcm", noise(channels=1), ImagePositionPatient=None)


def _twice(folder: Path) -> None:
    dicom_slice(folder / "9.dcm", noise(channels=1), (-10, -20, 35))


def _gap(folder: Path) -> None:
    (folder / "001.dcm").unlink()


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (_other_series, r"s: holds 2 series \(SeriesInstanceUID differs\): 000.dcm and others"),
        (_turned, r"9.dcm: has another orientation than the slice 000.dcm"),
        (_smaller, r"9.dcm: has 9 rows, the slice 000.dcm has 16"),
        (_without_place, r"9.dcm: has no ImagePositionPatient"),
        (_twice, r"lies at the same place as"),
        (_gap, r"lies 10.00 mm beyond 000.dcm, other slices 5.00 mm apart"),
    ],
)
def test_what_makes_no_volume_is_one_clear_error(tmp_path: Path, spoil: Any, found: str) -> None:
    slices = np.stack([noise(seed, channels=1) for seed in range(4)])
    folder = dicom_series(tmp_path / "s", slices)
    spoil(folder)
    with pytest.raises(DataError, match=found):
        read_header(volume_files(folder))


def test_truncated_pixels_are_an_error(tmp_path: Path) -> None:
    path = dicom_slice(tmp_path / "a.dcm", noise(channels=1))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"a.dcm: .*(incomplete|damaged)"):
        read_image(path)


def test_missing_pixels_are_an_error(tmp_path: Path) -> None:
    path = dicom_slice(tmp_path / "a.dcm", noise(channels=1), PixelData=None)
    with pytest.raises(DataError, match="holds no pixels"):
        read_image(path)


def test_compression_without_a_decoder_names_what_to_install(tmp_path: Path) -> None:
    path = dicom_slice(tmp_path / "a.dcm", noise(channels=1))
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = JPEGLSLossless
    dataset.PixelData = pydicom.encaps.encapsulate([b"\0\1\2\3"])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)
    with pytest.raises(DataError, match=r"compressed as JPEG-LS .* pip install pylibjpeg"):
        read_image(path)


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("1.2.840.10008.5.1.4.1.1.481.3", "holds no image .RT Structure Set Storage"),
        ("1.2.840.10008.1.3.10", "holds no image .Media Storage Directory"),
    ],
)
def test_objects_that_are_no_images_are_named(tmp_path: Path, kind: str, found: str) -> None:
    path = dicom_slice(
        tmp_path / "a.dcm", noise(channels=1), SOPClassUID=kind, Rows=None, Columns=None,
        PixelData=None,
    )  # fmt: skip
    assert is_volume(path)
    with pytest.raises(DataError, match=found):
        read_image(path)
    with pytest.raises(DataError, match=found):
        volume_files(tmp_path)


def test_a_missing_pydicom_is_named_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = dicom_slice(tmp_path / "a.dcm", noise(channels=1))
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(DataError, match=r"pip install 'medseg\[dicom\]'"):
        read_image(path)


def _sample() -> bytes:
    with TemporaryDirectory() as folder:
        return dicom_slice(Path(folder) / "a.dcm", disk((5, 6)), WindowCenter=3).read_bytes()


SAMPLE = _sample()


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(132, len(SAMPLE) - 1), st.integers(0, 255)), max_size=6),
    st.integers(0, len(SAMPLE) - 132),
)
def test_damage_of_any_kind_is_a_message(changes: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(SAMPLE)
    for place, value in changes:
        data[place] = value
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.dcm"
        path.write_bytes(data[: len(data) - cut])
        for name in (path, Path(folder)):
            for read in (read_image, read_mask):
                with contextlib.suppress(DataError):
                    read(name)
            with contextlib.suppress(DataError):
                read_labels(volume_files(name))
