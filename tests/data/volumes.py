"""Small volumes in every format for tests."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import nrrd
import numpy as np
import pydicom
import tifffile
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

AXIAL = np.diag([2.0, 2.0, 5.0, 1.0])
"""Thick axial slices in RAS+, mm."""


def ramp(shape: tuple[int, ...] = (4, 5, 3), dtype: Any = np.int16, seed: int = 0) -> NDArray[Any]:
    """Values that all differ, in a random order."""
    values = np.random.default_rng(seed).permutation(int(np.prod(shape)))
    return values.reshape(shape).astype(dtype)


def save_nifti(
    path: Path, values: NDArray[Any], affine: NDArray[Any] = AXIAL, *, code: int = 1
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(values, affine)
    image.set_sform(affine, code)
    nibabel.save(image, path)
    return path


def save_nrrd(path: Path, values: NDArray[Any], affine: NDArray[Any] = AXIAL, **more: Any) -> Path:
    """In LPS, as most programs write it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lps = np.diag([-1, -1, 1, 1]) @ affine
    header = {
        "space": "left-posterior-superior",
        "space directions": lps[:3, :3].T,
        "space origin": lps[:3, 3],
        **more,
    }
    nrrd.write(str(path), values, header, index_order="F")
    return path


def save_mha(
    path: Path, values: NDArray[Any], affine: NDArray[Any] = AXIAL, *, packed: bool = False
) -> Path:
    """An ``.mha``, or an ``.mhd`` with its ``.raw``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lps = np.diag([-1, -1, 1, 1]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    kinds = {"int16": "MET_SHORT", "uint8": "MET_UCHAR", "uint16": "MET_USHORT"}
    data = values.tobytes(order="F")
    if packed:
        data = zlib.compress(data)
    local = path.suffix == ".mha"
    lines = [
        "ObjectType = Image",
        "NDims = 3",
        "BinaryData = True",
        "BinaryDataByteOrderMSB = False",
        f"CompressedData = {packed}",
        "TransformMatrix = " + " ".join(map(repr, (lps[:3, :3] / spacing).T.ravel().tolist())),
        "Offset = " + " ".join(map(repr, lps[:3, 3].tolist())),
        "ElementSpacing = " + " ".join(map(repr, spacing.tolist())),
        "DimSize = " + " ".join(map(str, values.shape)),
        f"ElementType = {kinds[values.dtype.name]}",
        f"ElementDataFile = {'LOCAL' if local else path.stem + '.raw'}",
    ]
    text = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(text + (data if local else b""))
    if not local:
        path.with_suffix(".raw").write_bytes(data)
    return path


def save_pages(path: Path, pages: NDArray[Any], **more: Any) -> Path:
    """A TIFF of (S, H, W) pages."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, pages, photometric="minisblack", **more)
    return path


def dicom_slice(
    path: Path,
    pixels: NDArray[Any],
    position: Sequence[float] = (0, 0, 0),
    *,
    series: str = "1.2.3",
    directions: Sequence[float] = (1, 0, 0, 0, 1, 0),
    spacing: Sequence[float] = (2, 2),
    **tags: Any,
) -> Path:
    """A file of one slice; ``pixels`` is (rows, columns); further elements by keyword."""
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.SeriesInstanceUID = series
    dataset.PatientID = "P1"
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.dtype.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.ImagePositionPatient = [float(f"{part:.6f}") for part in position]
    dataset.ImageOrientationPatient = [float(f"{part:.6f}") for part in directions]
    dataset.PixelSpacing = list(spacing)
    dataset.PixelData = pixels.tobytes()
    for name, value in tags.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    pydicom.dcmwrite(path, dataset)
    return path


def dicom_series(
    folder: Path,
    slices: NDArray[Any],
    *,
    step: float = 5,
    origin: Sequence[float] = (-10, -20, 30),
    directions: Sequence[float] = (1, 0, 0, 0, 1, 0),
    names: Sequence[int] | None = None,
    **tags: Any,
) -> Path:
    """A series of (S, H, W), slices ``step`` mm apart along their normal; ``names`` shuffles the
    file names and InstanceNumbers."""
    normal = np.cross(directions[:3], directions[3:])
    for index, pixels in enumerate(slices):
        number = index if names is None else names[index]
        dicom_slice(
            folder / f"{number:03}.dcm",
            pixels,
            np.asarray(origin) + index * step * normal,
            directions=directions,
            InstanceNumber=number,
            **tags,
        )
    return folder


def balls(
    root: Path,
    count: int = 4,
    *,
    shape: tuple[int, int, int] = (16, 14, 12),
    affine: NDArray[Any] = AXIAL,
    classes: int = 2,
) -> Path:
    """``images/`` with bright balls in noise and ``labels/`` with them; class k is the k-th."""
    for index in range(count):
        random = np.random.default_rng(index)
        image = random.normal(100, 10, shape).astype(np.float32)
        mask = np.zeros(shape, np.uint8)
        voxels = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
        for k in range(1, classes):
            centre = random.uniform(4, np.array(shape) - 4)
            inside = np.linalg.norm(voxels - centre, axis=-1) < 3
            image[inside] += 60 * k
            mask[inside] = k
        save_nifti(root / "images" / f"{index:03}.nii.gz", image, affine)
        save_nifti(root / "labels" / f"{index:03}.nii.gz", mask, affine)
    return root
