"""The portable model: one file with weights and everything needed to apply them.

A bundle is a zip archive of ``bundle.json`` and ``weights.safetensors``, both stored
uncompressed. Reading one needs neither torch nor pickle, and runs no code.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from medseg import __version__
from medseg.data.case import Label, LabelMap, Region
from medseg.errors import ModelError
from medseg.files import atomic_path

SUFFIX = ".medseg"
MANIFEST = "bundle.json"
WEIGHTS = "weights.safetensors"
MAX_MANIFEST_BYTES = 16_000_000


class Preprocessing(BaseModel):
    """From a decoded image to the network's input."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    image_size: int = Field(ge=1, le=4096)
    """Height and width in pixels; the aspect ratio is not kept."""
    channels: int = Field(ge=1, le=64)
    mean: tuple[float, ...]
    """Of each channel, on the scale 0..1; subtracted."""
    std: tuple[Annotated[float, Field(gt=0)], ...]
    """Of each channel, on the scale 0..1; divided by."""

    @model_validator(mode="after")
    def _every_channel_is_normalised(self) -> Self:
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError(f"mean and std must hold {self.channels} numbers")
        return self


class StoredLabel(BaseModel):
    """A class: its name and the value that mask files hold for it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    value: int


class StoredRegion(BaseModel):
    """A structure made of several classes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    classes: tuple[int, ...]


class Manifest(BaseModel):
    """What a bundle says of itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    medseg: str = __version__
    system: str
    network: dict[str, Any]
    """All options of the network."""
    num_classes: int = Field(ge=1)
    """Logit channels."""
    labels: tuple[StoredLabel, ...] = Field(min_length=2)
    rgb: bool = False
    """Whether masks store colours (0xRRGGBB) rather than values."""
    ignore: int | None = None
    """The value of pixels in masks that nothing is known of."""
    regions: tuple[StoredRegion, ...] = ()
    """What is scored, where that is not each foreground class."""
    preprocessing: Preprocessing
    threshold: float = Field(default=0.5, gt=0, lt=1)
    recipe: dict[str, Any]
    data: dict[str, Any]
    """Name, hash and number of cases of the training data."""
    scores: dict[str, float]
    """Validation scores of the stored weights."""
    parameters: int
    weights_sha256: str

    @model_validator(mode="after")
    def _every_logit_has_a_label(self) -> Self:
        binary = self.num_classes == 1 and len(self.labels) == 2
        if not binary and self.num_classes != len(self.labels):
            raise ValueError(f"{len(self.labels)} labels do not fit {self.num_classes} logits")
        return self

    @property
    def label_map(self) -> LabelMap:
        return LabelMap(
            tuple(Label(each.name, each.value) for each in self.labels),
            rgb=self.rgb,
            ignore=self.ignore,
            regions=tuple(Region(each.name, each.classes) for each in self.regions),
        )


@dataclass(frozen=True)
class Bundle:
    """A manifest and the bytes of its safetensors weights."""

    manifest: Manifest
    weights: bytes


def write_bundle(path: Path, manifest: Manifest, weights: bytes) -> None:
    """Write a bundle, atomically; the same content gives the same bytes."""
    with atomic_path(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
        for name, data in (
            (MANIFEST, manifest.model_dump_json(indent=1).encode()),
            (WEIGHTS, weights),
        ):
            archive.writestr(zipfile.ZipInfo(name), data)


def read_manifest(path: Path) -> Manifest:
    """Read what a bundle says of itself, without its weights.

    Raises:
        ModelError: not a bundle, damaged, or of a newer format.
    """
    return _read(path, with_weights=False).manifest


def read_bundle(path: Path) -> Bundle:
    """Read a bundle and check its weights against their hash.

    Raises:
        ModelError: not a bundle, damaged, or of a newer format.
    """
    return _read(path, with_weights=True)


def _read(path: Path, *, with_weights: bool) -> Bundle:
    remedy = "Use a bundle written by `medseg train` (model.medseg), or copy it again"
    if not path.is_file():
        raise ModelError(path, "there is no such file", remedy)
    try:
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo(MANIFEST)
            if info.file_size > MAX_MANIFEST_BYTES:
                raise ModelError(path, f"its {MANIFEST} has {info.file_size} bytes", remedy)
            values = json.loads(archive.read(info))
            if isinstance(values, dict) and values.get("format", 1) != 1:
                raise ModelError(
                    path,
                    f"it has format {values['format']}, made by medseg {values.get('medseg')}",
                    f"Update medseg (this is {__version__})",
                )
            manifest = Manifest.model_validate(values)
            # A compressed member could be a decompression bomb; stored ones are as large as the
            # file itself.
            stored = archive.getinfo(WEIGHTS)
            if stored.compress_type != zipfile.ZIP_STORED or stored.file_size > path.stat().st_size:
                raise ModelError(path, f"its {WEIGHTS} is compressed", remedy)
            weights = archive.read(stored) if with_weights else b""
    except ModelError:
        raise
    # A damaged archive makes zipfile raise almost anything: BadZipFile, NotImplementedError,
    # RuntimeError (flags that say it is encrypted), zlib.error, struct.error ...
    except Exception as error:
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(path, f"it is damaged or not a bundle ({first_line})", remedy) from error
    if with_weights and hashlib.sha256(weights).hexdigest() != manifest.weights_sha256:
        raise ModelError(path, "its weights do not match their hash", remedy)
    return Bundle(manifest, weights)


def find_bundle(model: Path) -> Path:
    """The bundle file that ``model`` names: itself, or ``model.medseg`` inside a run folder.

    Raises:
        ModelError: nothing there, or a run that has not finished.
    """
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
    raise ModelError(model, "this folder is not a run", "Name a run folder or a .medseg file")
