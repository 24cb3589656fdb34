"""The portable model: one file with weights and everything needed to apply them.

A bundle is a zip archive, nothing in it compressed: ``bundle.json`` (what it says of itself),
``weights.safetensors``, ``card.md`` (the model card), ``golden/`` (images with the masks they must
get) and, where it was exported for ONNX Runtime, ``model.onnx``. Reading one needs neither torch
nor pickle, and runs no code.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from medseg import __version__, zoo
from medseg.data.case import Label, LabelMap, Region
from medseg.data.prompts import Kind
from medseg.data.volumes.normalise import Intensity
from medseg.errors import ModelError
from medseg.files import atomic_path

SUFFIX = ".medseg"
MANIFEST = "bundle.json"
WEIGHTS = "weights.safetensors"
CARD = "card.md"
GRAPH = "model.onnx"
MAX_MANIFEST_BYTES = 16_000_000
MAX_GOLDEN = 1000
MAX_WINDOW = 2**27
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0

_Spacing = Annotated[float, Field(ge=1e-3, le=1e3)]
_Length = Annotated[int, Field(ge=1, le=4096)]


class Preprocessing(BaseModel):
    """From a decoded image to the network's input; of a model of volumes, only ``channels`` counts
    and :class:`VolumeInput` says the rest."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    image_size: int = Field(ge=1, le=4096)
    """Height and width in pixels; the aspect ratio is not kept."""
    channels: int = Field(ge=1, le=64)
    mean: tuple[Annotated[float, Field(ge=-1e6, le=1e6)], ...]
    """Of each channel, on the scale 0..1; subtracted."""
    std: tuple[Annotated[float, Field(ge=1e-6, le=1e6)], ...]
    """Of each channel, on the scale 0..1; divided by."""

    @model_validator(mode="after")
    def _every_channel_is_normalised(self) -> Self:
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError(f"mean and std must hold {self.channels} numbers")
        return self


class VolumeInput(BaseModel):
    """From a volume to what a network of volumes takes, and how that goes over it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    plane: Literal["", "axial", "coronal", "sagittal"] = "axial"
    """Of the slices along the first axis: every volume is turned to lie like this. Empty: each lies
    as it is shown in 2D."""
    spacing_mm: tuple[_Spacing, _Spacing, _Spacing] | None
    """Of slices, rows and columns: volumes are resampled to it. None: not at all, for volumes
    whose files say no spacing."""
    patch: tuple[_Length, _Length, _Length]
    """Slices, rows and columns of the window."""
    intensity: tuple[Intensity, ...] = Field(min_length=1, max_length=64)
    """Of each channel."""
    overlap: float = Field(default=0.5, ge=0, lt=1)
    """Share of a window that the next one covers, too, at least."""
    mirror: tuple[Literal[0, 1, 2], ...] = ()
    """Axes along which it was trained on mirrored patches; test-time augmentation takes these."""

    @model_validator(mode="after")
    def _a_window_fits_in_memory(self) -> Self:
        if math.prod(self.patch) > MAX_WINDOW:
            raise ValueError(f"a window of {self.patch} voxels")
        return self


class Postprocessing(BaseModel):
    """From class indices to the mask; of each foreground class by itself, slice by slice, or in
    3D for a model of volumes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    keep_largest: bool = False
    """Only the largest component of each class."""
    min_pixels: int = Field(default=0, ge=0)
    """Smaller components become background."""


class StoredLabel(BaseModel):
    """A class: its name, the value that mask files hold for it, and how it is drawn."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    value: int = Field(ge=-(2**31), lt=2**31)
    colour: str | None = Field(default=None, pattern="^#[0-9a-f]{6}$")
    """Of the foreground in pictures."""


class GoldenCase(BaseModel):
    """An image and the mask that the model must give it, whatever computes it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern="^[0-9]{1,3}$")
    """``golden/NAME.npy`` holds the image ``(H, W, C)`` uint8, ``golden/NAME.mask.npy`` its class
    indices ``(H, W)`` uint8; of a model of volumes ``(C, S, H, W)`` float32 as stored, and
    ``(S, H, W)``."""
    image_sha256: str
    """Of the member's bytes."""
    mask_sha256: str
    spacing_mm: tuple[_Spacing, _Spacing, _Spacing] | None = None
    """Between slices, rows and columns of a volume; None where it is not known."""


class StoredRegion(BaseModel):
    """A structure made of several classes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    classes: tuple[int, ...]


class _ReadSettings(BaseModel):
    """What of a recipe's section ``data`` is used where a model is."""

    model_config = ConfigDict(strict=True)

    max_megapixels: float = Field(default=100.0, gt=0, le=1e12)
    snap_masks: Literal["auto", "always", "never"] = "auto"
    group_pattern: str | None = None
    layout: str = "auto"
    slices: str | None = None


class _UsedRecipe(BaseModel):
    data: _ReadSettings = _ReadSettings()


class _UsedData(BaseModel):
    model_config = ConfigDict(strict=True)

    seen: list[str] = Field(default_factory=list)


class Manifest(BaseModel):
    """What a bundle says of itself."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    format: Literal[1, 2] = 2
    medseg: str = __version__
    title: str = ""
    """What the model is called where it is shown; empty: by its system and its data."""
    system: str
    network: dict[str, Any]
    """All options of the network."""
    num_classes: int = Field(ge=1, le=255)
    """Logit channels."""
    labels: tuple[StoredLabel, ...] = Field(min_length=2)
    rgb: bool = False
    """Whether masks store colours (0xRRGGBB) rather than values."""
    ignore: int | None = None
    """The value of pixels in masks that nothing is known of."""
    regions: tuple[StoredRegion, ...] = ()
    """What is scored, where that is not each foreground class."""
    preprocessing: Preprocessing
    volume: VolumeInput | None = None
    """Of a model of volumes; None for one of pictures."""
    prompts: tuple[Kind, ...] = ()
    """Kinds of prompts that say what to segment; without any, it segments all that it knows."""
    sentences: tuple[str, ...] = ()
    """Of a model of words: by which it is asked for each foreground class where no others are
    given."""
    temperature: float = Field(default=1.0, ge=MIN_TEMPERATURE, le=MAX_TEMPERATURE)
    """Logits are divided by it, so that probabilities are calibrated on the validation part."""
    threshold: float = Field(default=0.5, gt=0, lt=1)
    postprocessing: Postprocessing = Postprocessing()
    golden: tuple[GoldenCase, ...] = Field(default=(), max_length=MAX_GOLDEN)
    licence: str = ""
    """Under which the model may be passed on, as its maker stated it."""
    recipe: dict[str, Any]
    data: dict[str, Any]
    """Name, hash and number of cases of the training data."""
    scores: dict[str, float]
    """Validation scores of the stored weights."""
    parameters: int
    weights_sha256: str
    graph_sha256: str | None = None
    """Of ``model.onnx``; None where the bundle holds none."""

    @model_validator(mode="after")
    def _every_logit_has_a_label(self) -> Self:
        binary = self.num_classes == 1 and len(self.labels) == 2
        if not binary and self.num_classes != len(self.labels):
            raise ValueError(f"{len(self.labels)} labels do not fit {self.num_classes} logits")
        return self

    @model_validator(mode="after")
    def _every_structure_has_a_sentence(self) -> Self:
        if self.sentences and ("text" not in self.prompts or self.volume is not None):
            raise ValueError("sentences are for models of pictures that take text")
        if self.sentences and len(self.sentences) != len(self.labels) - 1:
            raise ValueError(
                f"{len(self.sentences)} sentences do not fit {len(self.labels)} labels"
            )
        return self

    @model_validator(mode="after")
    def _every_channel_of_volumes_is_normalised(self) -> Self:
        if self.volume is not None and len(self.volume.intensity) != self.preprocessing.channels:
            raise ValueError(f"intensity must hold {self.preprocessing.channels} channels")
        if self.volume is not None and self.rgb:
            raise ValueError("masks of volumes hold no colours")
        return self

    @model_validator(mode="after")
    def _what_is_used_can_be_used(self) -> Self:
        _UsedRecipe.model_validate(self.recipe)
        _UsedData.model_validate(self.data)
        if len({case.name for case in self.golden}) != len(self.golden):
            raise ValueError("two golden cases have one name")
        if any(not 0 <= k < len(self.labels) for each in self.regions for k in each.classes):
            raise ValueError("a region has a class that is not there")
        return self

    @property
    def must_be_pointed(self) -> bool:
        """Whether it segments nothing before it is pointed at something."""
        return bool(self.prompts) and not self.sentences

    @property
    def picture_slices(self) -> str | None:
        """Which pictures are slices of volumes (``data.slices``)."""
        return _UsedRecipe.model_validate(self.recipe).data.slices

    @property
    def label_map(self) -> LabelMap:
        return LabelMap(
            tuple(Label(each.name, each.value) for each in self.labels),
            rgb=self.rgb,
            ignore=self.ignore,
            regions=tuple(Region(each.name, each.classes) for each in self.regions),
        )


@dataclass(frozen=True, eq=False)
class Golden:
    """An image and the class indices that the model gave it when it was made.

    Attributes:
        image: ``(H, W, C)`` uint8; of a model of volumes ``(C, S, H, W)`` float32, as stored.
        classes: ``(H, W)`` uint8, of volumes ``(S, H, W)``.
        spacing: between slices, rows and columns of a volume in mm; None where it is not known.
    """

    image: NDArray[Any]
    classes: NDArray[np.uint8]
    spacing: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Bundle:
    """A manifest and the bytes of its safetensors weights."""

    manifest: Manifest
    weights: bytes


def write_bundle(
    path: Path,
    manifest: Manifest,
    weights: bytes,
    *,
    card: str = "",
    golden: Sequence[Golden] = (),
    graph: bytes | None = None,
) -> Manifest:
    """Write a bundle, atomically; the same content gives the same bytes.

    Args:
        path: to write.
        manifest: its golden cases and the graph's hash are those of the arguments here.
        weights: safetensors.
        card: the model card, Markdown.
        golden: cases that any way of computing must reproduce.
        graph: ONNX.

    Returns:
        The manifest as written.
    """
    members: dict[str, bytes] = {WEIGHTS: weights}
    if card:
        members[CARD] = card.encode()
    if graph is not None:
        members[GRAPH] = graph
    for number, case in enumerate(golden):
        members[_image_of(str(number))] = _to_npy(case.image)
        members[_mask_of(str(number))] = _to_npy(case.classes)
    manifest = manifest.model_copy(
        update={
            "golden": stored_golden(golden),
            "graph_sha256": None if graph is None else _sha256(graph),
        }
    )
    members = {MANIFEST: manifest.model_dump_json(indent=1).encode(), **members}
    with atomic_path(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return manifest


def stored_golden(golden: Sequence[Golden]) -> tuple[GoldenCase, ...]:
    """What the manifest of a bundle says of its golden cases."""
    return tuple(
        GoldenCase(
            name=str(number),
            image_sha256=_sha256(_to_npy(case.image)),
            mask_sha256=_sha256(_to_npy(case.classes)),
            spacing_mm=case.spacing,
        )
        for number, case in enumerate(golden)
    )


def read_manifest(path: Path) -> Manifest:
    """Read what a bundle says of itself, without its weights.

    Raises:
        ModelError: not a bundle, damaged, or of a newer format.
    """
    with _opened(path) as (_, manifest):
        return manifest


def read_bundle(path: Path) -> Bundle:
    """Read a bundle and check its weights against their hash.

    Raises:
        ModelError: not a bundle, damaged, or of a newer format.
    """
    with _opened(path) as (archive, manifest):
        return Bundle(manifest, _member(archive, path, WEIGHTS, manifest.weights_sha256))


def read_graph(path: Path) -> bytes | None:
    """The ONNX graph in a bundle, or None where it holds none.

    Raises:
        ModelError: not a bundle, damaged, or of a newer format.
    """
    with _opened(path) as (archive, manifest):
        if manifest.graph_sha256 is None:
            return None
        return _member(archive, path, GRAPH, manifest.graph_sha256)


def read_card(path: Path) -> str:
    """The model card of a bundle as Markdown; empty where it has none.

    Raises:
        ModelError: not a bundle, damaged, or of a newer format.
    """
    with _opened(path) as (archive, _):
        if CARD not in archive.namelist():
            return ""
        return _member(archive, path, CARD, None).decode("utf-8")


def read_golden(path: Path) -> tuple[Golden, ...]:
    """The golden cases of a bundle.

    Raises:
        ModelError: not a bundle, damaged, or of a newer format.
    """
    with _opened(path) as (archive, manifest):
        found = []
        for case in manifest.golden:
            kind: type[Any] = np.uint8 if manifest.volume is None else np.float32
            image = _from_npy(_member(archive, path, _image_of(case.name), case.image_sha256), kind)
            classes = _from_npy(
                _member(archive, path, _mask_of(case.name), case.mask_sha256), np.uint8
            )
            shape, axis = (image.shape[:2], 2) if manifest.volume is None else (image.shape[1:], 0)
            channels = manifest.preprocessing.channels
            if image.ndim != len(shape) + 1 or image.shape[axis] != channels or not image.size:
                raise ValueError(f"golden case {case.name} is no image of {channels} channels")
            if classes.shape != shape or classes.max() >= len(manifest.labels):
                raise ValueError(f"golden case {case.name} has a mask that is not its own")
            found.append(Golden(image, classes, case.spacing_mm))
        return tuple(found)


_REMEDY = "Use a bundle written by `medseg train` (model.medseg), or copy it again"

# Of the zip archive's directory: more than a thousand golden cases need, and little to read.
_MAX_DIRECTORY_BYTES = 500_000
# Of JSON in memory, which may take far more than its text.
_MAX_ITEMS, _MAX_CONTAINERS, _MAX_DEPTH = 2_000_000, 100_000, 16
_MAX_OPTION, _MAX_OPTIONS = 65_536, 256


class _Archive(io.FileIO):
    """A file that is read in no larger bites than ``most``, whatever its headers promise."""

    most = _MAX_DIRECTORY_BYTES

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0:
            size = max(0, os.fstat(self.fileno()).st_size - self.tell())
        if size > self.most:
            raise ValueError(f"it wants {size} bytes at once")
        return super().read(size) or b""


@contextmanager
def _opened(path: Path) -> Iterator[tuple[zipfile.ZipFile, Manifest]]:
    """The archive and its manifest; whatever is wrong with either, or met inside, is a
    ModelError."""
    if not path.is_file():
        raise ModelError(path, "there is no such file", f"{_REMEDY}{zoo.suggestion(path)}")
    try:
        with _Archive(path) as file, zipfile.ZipFile(file) as archive:
            _check_members(archive, path)
            file.most = path.stat().st_size
            info = archive.getinfo(MANIFEST)
            archive.getinfo(WEIGHTS)
            if info.file_size > MAX_MANIFEST_BYTES:
                raise ModelError(path, f"its {MANIFEST} has {info.file_size} bytes", _REMEDY)
            yield archive, parse_manifest(path, archive.read(info))
    except ModelError:
        raise
    # A damaged archive makes zipfile raise almost anything: BadZipFile, NotImplementedError,
    # RuntimeError (flags that say it is encrypted), zlib.error, struct.error ...
    except Exception as error:
        reason = shown(str(error) or type(error).__name__, 200)
        raise ModelError(path, f"it is damaged or not a bundle ({reason})", _REMEDY) from error


def _check_members(archive: zipfile.ZipFile, path: Path) -> None:
    """Members are as large as they look: compressed ones could be decompression bombs, and those
    that share their bytes, too. Stored and apart, they are within the file."""
    members = archive.infolist()
    for info in members:
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise ModelError(path, f"its {shown(info.filename)} is compressed", _REMEDY)
    if sum(info.file_size for info in members) > path.stat().st_size:
        raise ModelError(path, "its members are larger than the file", _REMEDY)
    if len({info.filename for info in members}) != len(members):
        raise ModelError(path, "several of its members have one name", _REMEDY)


def parse_manifest(where: Path, text: bytes | str) -> Manifest:
    """A manifest from its JSON, which may be anybody's.

    Args:
        where: it was found, for messages.
        text: JSON.

    Raises:
        ModelError: it was written by a newer version.
        ValueError: it is not a manifest, or larger or deeper than one needs to be.
    """
    data = text.encode() if isinstance(text, str) else text
    if len(data) > MAX_MANIFEST_BYTES:
        raise ValueError(f"{len(data)} bytes")
    if data.count(b",") > _MAX_ITEMS or data.count(b"[") + data.count(b"{") > _MAX_CONTAINERS:
        raise ValueError("it has too many values")
    values = json.loads(data, parse_constant=_finite, parse_float=_finite)
    _check_depth(values)
    if isinstance(values, dict) and values.get("format", 1) not in (1, 2):
        raise ModelError(
            where,
            f"it has format {shown(values['format'])}, made by medseg "
            f"{shown(values.get('medseg'))}",
            f"Update medseg (this is {__version__})",
        )
    manifest = Manifest.model_validate(values)
    # Whoever names a network's file has read what it does with its options.
    if not manifest.system.endswith(".py"):
        _check_options(manifest.network)
    return manifest


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not a number")
    return number


def _check_depth(values: Any) -> None:
    level = [values]
    for _ in range(_MAX_DEPTH):
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return
    raise ValueError(f"it is nested more than {_MAX_DEPTH} deep")


def _check_options(value: Any) -> None:
    """Refuse options of a network that would fill the memory before any weight is read.

    Raises:
        ValueError: a number above 65,536, or more than 256 values in one list.
    """
    if isinstance(value, int | float) and abs(value) > _MAX_OPTION:
        raise ValueError(f"a network's option is {value}")
    if isinstance(value, dict | list | tuple):
        if len(value) > _MAX_OPTIONS:
            raise ValueError(f"a network has {len(value)} options or values in one of them")
        for inner in value.values() if isinstance(value, dict) else value:
            _check_options(inner)


def shown(value: object, most: int = 80) -> str:
    """Of a file that may come from anybody, in a message: one line that no terminal acts on."""
    text = " ".join(str(value)[: 2 * most].split())
    plain = "".join(each if each.isprintable() else "?" for each in text)
    return plain if len(plain) <= most else f"{plain[:most]} ..."


def _member(archive: zipfile.ZipFile, path: Path, name: str, sha256: str | None) -> bytes:
    data = archive.read(name)
    if sha256 is not None and _sha256(data) != sha256:
        what = "weights do" if name == WEIGHTS else f"{name} does"
        raise ModelError(path, f"its {what} not match {'their' if name == WEIGHTS else 'its'} hash",
                         _REMEDY)  # fmt: skip
    return data


def _image_of(name: str) -> str:
    return f"golden/{name}.npy"


def _mask_of(name: str) -> str:
    return f"golden/{name}.mask.npy"


def _to_npy(array: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(array), allow_pickle=False)
    return file.getvalue()


def _from_npy(data: bytes, kind: type[Any]) -> NDArray[Any]:
    """Of an array of ``kind`` that is all there: a header may promise more than memory holds."""
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise ValueError(f"npy version {version}")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    size = math.prod(shape) * np.dtype(kind).itemsize
    if fortran or dtype != kind or size != len(data) - file.tell():
        raise ValueError(f"an array of shape {shape} and type {dtype}")
    return np.frombuffer(data, kind, offset=file.tell()).reshape(shape).copy()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def find_bundle(model: Path) -> Path:
    """The bundle file that ``model`` names: itself, ``model.medseg`` inside a run folder, or that
    of a model that comes with medseg.

    Raises:
        ModelError: nothing there, or a run that has not finished.
    """
    shipped = zoo.find(model)
    if shipped is not None:
        return shipped
    if not model.is_dir():
        return model
    bundle = model / f"model{SUFFIX}"
    if bundle.is_file():
        return bundle
    if (model / "recipe.yaml").is_file():
        raise ModelError(
            model,
            "this run has not finished: it holds no model.medseg",
            "Finish it with `medseg train DATA -o RUN --resume`",
        )
    raise ModelError(
        model,
        "this folder is not a run",
        f"Name a run folder or a .medseg file{zoo.suggestion(model)}",
    )
