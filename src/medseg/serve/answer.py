"""What a client gets of a prediction: the mask file, or all there is to say of it."""

from __future__ import annotations

import base64
import io
import json
import time

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, Field

from medseg.data.io.raster import mask_picture
from medseg.data.labels import decode_mask
from medseg.inference.bundle import Manifest
from medseg.inference.predictor import Prediction, Predictor
from medseg.report.overlay import class_colour
from medseg.serve.contours import contours
from medseg.serve.served import Served

Spacing = tuple[float, float]
"""Millimetres from pixel to pixel: down a column, along a row."""


class FoundClass(BaseModel):
    """A foreground class in a mask."""

    name: str
    value: int = Field(description="in mask files; 0xRRGGBB where those hold colours")
    index: int = Field(description="in `mask`")
    colour: str = Field(description="to draw it in, #rrggbb")
    pixels: int
    share: float = Field(description="of the image's pixels, 0..1")
    confidence: float | None = Field(
        description="mean calibrated probability of the class inside; null where it has no pixels"
    )
    area_mm2: float | None = Field(description="null unless `spacing` was given")
    contours: list[list[tuple[int, int]]] = Field(
        description="polygons of [x, y] along the edges of pixels; outer ones clockwise as seen, "
        "holes the other way round"
    )


class Answer(BaseModel):
    """A mask and what there is to say of it."""

    model: str
    width: int
    height: int
    mask: str = Field(description="PNG of class indices (0 is background), base64")
    classes: list[FoundClass]
    milliseconds: float = Field(description="from the end of the upload to this answer")


class LabelInfo(BaseModel):
    """A class that a model tells apart."""

    name: str
    value: int
    index: int
    colour: str | None


class ModelInfo(BaseModel):
    """A model of this service."""

    name: str
    system: str
    parameters: int
    engine: str
    binary: bool = Field(description="whether `threshold` can be given")
    threshold: float
    temperature: float
    labels: list[LabelInfo]
    image_size: int = Field(description="pixels a side to which images are resized inside")
    channels: int
    max_pixels: int
    scores: dict[str, float]
    licence: str
    card: str = Field(description="Markdown")
    weights_sha256: str


class Models(BaseModel):
    """The models of this service."""

    models: list[ModelInfo]


def mask_png(model: Predictor, found: Prediction) -> bytes:
    """The file that `medseg predict` writes."""
    return _png(mask_picture(decode_mask(found.classes, model.labels)))


def as_json(served: Served, found: Prediction, spacing: Spacing | None, started: float) -> bytes:
    """An :class:`Answer`.

    Args:
        served: what computed it.
        found: with probabilities.
        spacing: of the image's pixels, if known.
        started: on the clock of ``time.perf_counter``.
    """
    height, width = found.classes.shape
    manifest = served.model.manifest
    answer = {
        "model": served.name,
        "width": width,
        "height": height,
        "mask": base64.b64encode(_png(Image.fromarray(found.classes))).decode(),
        "classes": [
            _class(manifest, index, found, spacing) for index in range(1, len(manifest.labels))
        ],
        "milliseconds": round(1000 * (time.perf_counter() - started), 3),
    }
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode()


def describe(served: Served, max_pixels: int) -> ModelInfo:
    """What a service says of a model."""
    manifest = served.model.manifest
    return ModelInfo(
        name=served.name,
        system=manifest.system,
        parameters=manifest.parameters,
        engine=served.model.engine,
        binary=manifest.num_classes == 1,
        threshold=manifest.threshold,
        temperature=manifest.temperature,
        labels=[
            LabelInfo(
                name=label.name,
                value=label.value,
                index=index,
                colour=_colour(manifest, index) if index else None,
            )
            for index, label in enumerate(manifest.labels)
        ],
        image_size=manifest.preprocessing.image_size,
        channels=manifest.preprocessing.channels,
        max_pixels=max_pixels,
        scores=manifest.scores,
        licence=manifest.licence,
        card=served.card,
        weights_sha256=manifest.weights_sha256,
    )


def _class(
    manifest: Manifest, index: int, found: Prediction, spacing: Spacing | None
) -> dict[str, object]:
    region: NDArray[np.bool_] = found.classes == index
    pixels = int(np.count_nonzero(region))
    assert found.probabilities is not None
    probability = found.probabilities[0 if manifest.num_classes == 1 else index]
    confidence = float(probability[region].mean(dtype=np.float64)) if pixels else None
    label = manifest.labels[index]
    return {
        "name": label.name,
        "value": label.value,
        "index": index,
        "colour": _colour(manifest, index),
        "pixels": pixels,
        "share": pixels / region.size,
        "confidence": confidence,
        "area_mm2": None if spacing is None else pixels * spacing[0] * spacing[1],
        "contours": contours(region) if pixels else [],
    }


def _colour(manifest: Manifest, index: int) -> str:
    red, green, blue = class_colour(index)
    return manifest.labels[index].colour or f"#{red:02x}{green:02x}{blue:02x}"


def _png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, format="PNG")
    return file.getvalue()
