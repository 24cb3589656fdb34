"""DICOM: a single image, a series of one file a slice, or a multi-frame image; with pydicom.

Stored values go through the rescale slope and intercept (or the modality table). They are shown by
the window of the file, the LINEAR function of PS3.3 C.11.2.1.2, where all slices have the same
one; MONOCHROME1 is inverted. Slices are ordered by where they lie along their normal.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.data.io.geometry import Header, make_header
from medseg.data.io.voxels import Voxels
from medseg.errors import DataError, plural

SUFFIXES = (".dcm", ".dicom")

_SEGMENTATION = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
_TAGS = (
    "SOPClassUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "PatientID",
    "Modality",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SpacingBetweenSlices",
    "SliceThickness",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)
# Cosines of directions, and parts of the distance between two slices, that may differ.
_TURN = 1e-3
_UNEVEN = 0.1


def recognise(start: bytes) -> bool:
    """Whether a file starts like this format."""
    return start[128:132] == b"DICM"


def is_dicom(path: Path) -> bool:
    """Whether the file is one of this format; False when it cannot be read."""
    try:
        with path.open("rb") as file:
            return recognise(file.read(132))
    except OSError:
        return False


def files_of(folder: Path) -> tuple[Path, ...]:
    """The images of a folder that holds one series, in the order of their slices.

    Raises:
        DataError: no images, several series, or slices that do not make a volume.
    """
    found = series_in(folder)
    if len(found) > 1:
        raise DataError(folder, *several_series(found))
    return _ordered(folder, next(iter(found.values())))


def series_in(folder: Path) -> dict[str, list[Any]]:
    """The images of a folder by their SeriesInstanceUID, without pixels.

    Objects that are no images, such as a DICOMDIR, are left out.

    Raises:
        DataError: no DICOM image there.
    """
    found: dict[str, list[Any]] = {}
    other: DataError | None = None
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.name.startswith(".") and is_dicom(path):
            dataset = _read(path, pixels=False)
            try:
                _check_image(path, dataset)
            except DataError as error:
                other = other or error
                continue
            found.setdefault(str(dataset.get("SeriesInstanceUID", "")), []).append(dataset)
    if not found:
        raise other or DataError(folder, "holds no DICOM image", "Name a folder with a series")
    return found


def several_series(found: dict[str, list[Any]]) -> tuple[str, str]:
    """What to say of several series in one folder."""
    shown = ", ".join(
        f"{_path(images[0]).name} and others ({plural(len(images), 'file')})"
        if len(images) > 1
        else _path(images[0]).name
        for images in list(found.values())[:4]
    )
    return (
        f"holds {len(found)} series (SeriesInstanceUID differs): {shown}",
        "Put each series into a folder of its own",
    )


def read_header(files: tuple[Path, ...]) -> Header:
    datasets = [_read(path, pixels=False) for path in files]
    for path, dataset in zip(files, datasets, strict=True):
        _check_image(path, dataset)
    return _header(files, datasets)


def modality(path: Path) -> str:
    """What made the image, e.g. ``"CT"``; empty where the file does not say."""
    return str(_read(path, pixels=False).get("Modality") or "")


def read_voxels(files: tuple[Path, ...]) -> Voxels:
    """Raises DataError for pixels that are missing, cut off, or compressed without a decoder."""
    slices: list[NDArray[Any]] = []
    datasets = []
    for path in files:
        dataset = _read(path, pixels=True)
        _check_image(path, dataset)
        slices.append(_pixels(path, dataset))
        for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData"):
            dataset.pop(name, None)
        datasets.append(dataset)
    header = _header(files, datasets)
    first = datasets[0]
    frames = slices[0] if len(files) == 1 else np.stack(slices)
    frames = frames.reshape(*header.shape[::-1], *((3,) if header.colour else ()))
    order = _frame_order(first) if len(files) == 1 and header.shape[2] > 1 else None
    if order is not None:
        frames = frames[order]
    windows = {_window(dataset) for dataset in datasets}
    return Voxels(
        header,
        np.moveaxis(frames, (0, 1, 2), (2, 1, 0)),
        colour=header.colour,
        window=windows.pop() if len(windows) == 1 and not header.colour else None,
        inverted=first.get("PhotometricInterpretation") == "MONOCHROME1",
        lossy=any(str(dataset.get("LossyImageCompression", "")) == "01" for dataset in datasets),
    )


def _read(path: Path, *, pixels: bool) -> Any:
    try:
        import pydicom
    except ImportError as error:
        raise DataError(
            path, "is a DICOM file, which needs pydicom", "pip install 'medseg[dicom]'"
        ) from error
    tags = None if pixels else list(_TAGS)
    return pydicom.dcmread(path, stop_before_pixels=not pixels, specific_tags=tags)


def _path(dataset: Any) -> Path:
    return Path(dataset.filename)


def _check_image(path: Path, dataset: Any) -> None:
    from pydicom.uid import UID

    kind = str(dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID", ""))
    if not dataset.get("Rows") or not dataset.get("Columns"):
        raise DataError(path, f"holds no image ({UID(kind).name or 'no class'})", "Name an image")
    if kind in _SEGMENTATION:
        raise DataError(
            path, "is a DICOM segmentation, which is not read yet", "Convert it to NIfTI first"
        )


def _header(files: tuple[Path, ...], datasets: Sequence[Any]) -> Header:
    path, first = files[0], datasets[0]
    rows, columns = int(first.Rows), int(first.Columns)
    frames = int(first.get("NumberOfFrames") or 1)
    samples = int(first.get("SamplesPerPixel") or 1)
    colour = samples == 3 or first.get("PhotometricInterpretation") == "PALETTE COLOR"
    if samples not in (1, 3):
        raise DataError(path, f"has {samples} samples a pixel", "Save it as grey or RGB")
    affine: NDArray[np.float64] | None
    if len(files) > 1:
        affine = _series_affine(files, datasets)
        count = len(files)
    else:
        affine = _frames_affine(first) if frames > 1 else _slice_affine(first)
        count = frames
    patient = str(first.get("PatientID") or "").strip() or None
    return make_header(files, (columns, rows, count), affine, colour=colour, patient=patient)


def _ordered(folder: Path, datasets: Sequence[Any]) -> tuple[Path, ...]:
    """The files of a series by where they lie along their normal."""
    if len(datasets) == 1:
        return (_path(datasets[0]),)
    for dataset in datasets:
        _check_placed(_path(dataset), dataset)
    normal = _normal(datasets[0])
    ordered = sorted(datasets, key=lambda dataset: float(normal @ _position(dataset)))
    return tuple(_path(dataset) for dataset in ordered)


def _check_placed(path: Path, dataset: Any) -> None:
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        raise DataError(path, "is a multi-frame image within a series", "Name each by itself")
    for name, count in (
        ("ImagePositionPatient", 3),
        ("ImageOrientationPatient", 6),
        ("PixelSpacing", 2),
    ):
        value = dataset.get(name)
        if value is None or isinstance(value, str | float) or len(value) != count:
            raise DataError(
                path,
                f"has no {name}, so its place among the slices is unknown",
                "Export the series with its geometry, or one image per folder",
            )


def _series_affine(files: tuple[Path, ...], datasets: Sequence[Any]) -> NDArray[np.float64]:
    """From (column, row, slice) to mm in RAS+.

    Raises:
        DataError: slices of different sizes or orientations, two at one place, or a gap.
    """
    first = datasets[0]
    for path, dataset in zip(files, datasets, strict=True):
        _check_placed(path, dataset)
        for name, words in (
            ("Rows", "rows"),
            ("Columns", "columns"),
            ("SamplesPerPixel", "samples a pixel"),
        ):
            if dataset.get(name) != first.get(name):
                raise DataError(
                    path,
                    f"has {dataset.get(name)} {words}, the slice {files[0].name} has "
                    f"{first.get(name)}",
                    "All slices of a series must have one size; put others into another folder",
                )
        turned = np.abs(_directions(dataset) - _directions(first)).max() > _TURN
        if turned or not np.allclose(_spacing(dataset), _spacing(first), rtol=1e-3):
            raise DataError(
                path,
                f"has another {'orientation' if turned else 'pixel spacing'} than the slice "
                f"{files[0].name}",
                "A series must be one stack of parallel slices; put others into another folder",
            )
    positions = np.array([_position(dataset) for dataset in datasets])
    along = positions @ _normal(first)
    steps = np.diff(along)
    usual = float(np.sort(steps)[(len(steps) - 1) // 2])
    for index, step in enumerate(steps):
        if step < 1e-3 or step < usual * _UNEVEN:
            raise DataError(
                files[index + 1],
                f"lies at the same place as {files[index].name} ({along[index]:.2f} mm)",
                "Keep one of them, or put each phase into a folder of its own",
            )
        if abs(step - usual) > _UNEVEN * usual:
            raise DataError(
                files[index + 1],
                f"lies {step:.2f} mm beyond {files[index].name}, other slices {usual:.2f} mm apart",
                "A slice may be missing: copy the whole series",
            )
    return _affine(first, positions[0], (positions[-1] - positions[0]) / (len(files) - 1))


def _slice_affine(dataset: Any) -> NDArray[np.float64] | None:
    try:
        _check_placed(Path(), dataset)
    except DataError:
        return None
    thickness = float(dataset.get("SpacingBetweenSlices") or dataset.get("SliceThickness") or 1)
    return _affine(dataset, _position(dataset), _normal(dataset) * abs(thickness))


def _frames_affine(dataset: Any) -> NDArray[np.float64] | None:
    """Of a multi-frame image whose frames are one even stack of parallel slices, else None."""
    places = _frame_places(dataset)
    order = _frame_order(dataset)
    if places is None or order is None:
        return None
    positions = places[0][order]
    step = (positions[-1] - positions[0]) / (len(positions) - 1)
    even = positions[0] + step * np.arange(len(positions))[:, None]
    if np.abs(positions - even).max() > _UNEVEN * np.linalg.norm(step):
        return None
    return _to_ras(places[1], places[2], positions[0], step)


def _frame_order(dataset: Any) -> NDArray[np.intp] | None:
    places = _frame_places(dataset)
    if places is None:
        return None
    along = places[0] @ np.cross(places[1][0], places[1][1])
    order = np.argsort(along, kind="stable")
    return order if (np.diff(along[order]) > 1e-3).all() else None


def _frame_places(
    dataset: Any,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]] | None:
    """Positions (N, 3), and the common directions (2, 3) and spacing (2,); None if not known."""
    shared = [*dataset.get("SharedFunctionalGroupsSequence", [])][:1]
    frames = list(dataset.get("PerFrameFunctionalGroupsSequence", []))

    def of(frame: Any, sequence: str, name: str) -> Any:
        for group in (frame, *shared):
            if sequence in group and name in group[sequence][0]:
                return group[sequence][0].get(name)
        return None

    found = [
        (
            of(frame, "PlanePositionSequence", "ImagePositionPatient"),
            of(frame, "PlaneOrientationSequence", "ImageOrientationPatient"),
            of(frame, "PixelMeasuresSequence", "PixelSpacing"),
        )
        for frame in frames
    ]
    if len(frames) != int(dataset.get("NumberOfFrames") or 1) or any(
        part is None for parts in found for part in parts
    ):
        return None
    positions, turns, spacings = (np.array(part, np.float64) for part in zip(*found, strict=True))
    if np.ptp(turns, axis=0).max() > _TURN or np.ptp(spacings, axis=0).max() > 1e-3:
        return None
    return positions, turns[0].reshape(2, 3), spacings[0]


def _affine(
    dataset: Any, origin: NDArray[np.float64], step: NDArray[np.float64]
) -> NDArray[np.float64]:
    return _to_ras(_directions(dataset), _spacing(dataset), origin, step)


def _to_ras(
    directions: NDArray[np.float64],
    spacing: NDArray[np.float64],
    origin: NDArray[np.float64],
    step: NDArray[np.float64],
) -> NDArray[np.float64]:
    affine = np.eye(4)
    # PixelSpacing is the distance of rows, then of columns; the first direction is along a row.
    affine[:3, 0] = directions[0] * spacing[1]
    affine[:3, 1] = directions[1] * spacing[0]
    affine[:3, 2] = step
    affine[:3, 3] = origin
    return np.diag([-1.0, -1, 1, 1]) @ affine


def _directions(dataset: Any) -> NDArray[np.float64]:
    return np.array(dataset.ImageOrientationPatient, np.float64).reshape(2, 3)


def _spacing(dataset: Any) -> NDArray[np.float64]:
    return np.array(dataset.PixelSpacing, np.float64)


def _position(dataset: Any) -> NDArray[np.float64]:
    return np.array(dataset.ImagePositionPatient, np.float64)


def _normal(dataset: Any) -> NDArray[np.float64]:
    along_row, along_column = _directions(dataset)
    return np.cross(along_row, along_column)


def _pixels(path: Path, dataset: Any) -> NDArray[Any]:
    """(H, W), (N, H, W) or the same with three channels; rescaled."""
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.pixels.processing import apply_color_lut, apply_modality_lut
    from pydicom.pixels.utils import pixel_array

    if not any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise DataError(path, "holds no pixels", "It is incomplete: copy or export it again")
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_compressed and not syntax.is_deflated and not get_decoder(syntax).is_available:
        raise DataError(
            path,
            f"its pixels are compressed as {syntax.name}, which no installed package decodes",
            "pip install pylibjpeg[all], or decompress it with dcmdjpeg or gdcmconv --raw",
        )
    try:
        values: NDArray[Any] = pixel_array(dataset)
    except Exception as error:  # decoders raise almost anything
        reason = " ".join(str(error).split())
        raise DataError(
            path,
            f"its pixels cannot be decoded ({reason})",
            "It is incomplete or damaged: copy or export it again",
        ) from error
    if dataset.get("PhotometricInterpretation") == "PALETTE COLOR":
        return np.asarray(apply_color_lut(values, dataset) >> 8, np.uint8)
    if int(dataset.get("SamplesPerPixel") or 1) > 1:
        return values
    rescaled = np.asarray(apply_modality_lut(values, dataset))
    # float32 holds every rescaled 16-bit value of whole slope and intercept exactly.
    return rescaled.astype(np.float32) if rescaled.dtype == np.float64 else rescaled


def _window(dataset: Any) -> tuple[float, float] | None:
    """The values shown as black and as white, or None when the file does not say."""
    centre, width = (_first(dataset.get(name)) for name in ("WindowCenter", "WindowWidth"))
    function = str(dataset.get("VOILUTFunction") or "LINEAR")
    if centre is None or width is None or function not in ("LINEAR", "LINEAR_EXACT"):
        return None
    if function == "LINEAR":
        centre, width = centre - 0.5, width - 1
    if not np.isfinite([centre, width]).all() or width < 0:
        return None
    # A width of nothing is a threshold.
    width = max(width, 1e-6 * max(1, abs(centre)))
    return centre - width / 2, centre + width / 2


def _first(value: Any) -> float | None:
    """The first of one or several numbers."""
    values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    return float(values[0]) if values and values[0] not in (None, "") else None
