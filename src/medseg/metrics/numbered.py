"""Masks that number their objects instead of naming classes: 0 is background, every other value
one object, so that objects that touch are still several."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medseg.data.case import Label, LabelMap
from medseg.data.io import MAX_PIXELS
from medseg.data.slices import Stack
from medseg.data.source import Source, Union
from medseg.errors import DataError, MedsegError

INSTANCE_METRICS = (
    "dice", "iou", "aji", "pq", "sq", "rq", "ap", "object_f1", "object_dice", "object_hausdorff",
)  # fmt: skip
"""What ``medseg evaluate --instances`` computes by default."""


@dataclass(frozen=True, slots=True)
class Numbered:
    """Whose masks number their objects; those of the others are connected components.

    Attributes:
        truth: the true masks.
        prediction: the predicted ones.
    """

    truth: bool = False
    prediction: bool = False

    def __bool__(self) -> bool:
        return self.truth or self.prediction

    @property
    def words(self) -> str:
        """E.g. ``"objects by number in the truth, connected components in the predictions"``."""
        ways = ["by number" if each else "connected components" for each in self._sides]
        if ways[0] == ways[1]:
            return f"objects: {ways[0]}"
        return f"objects: {ways[0]} in the truth, {ways[1]} in the predictions"

    @property
    def _sides(self) -> tuple[bool, bool]:
        return self.truth, self.prediction


BY_COMPONENTS = Numbered()
"""No masks number their objects."""


def region_of(mask: Source) -> Source:
    """The mask whose pixels are 1 where ``mask`` has any object; a volume stays one."""
    if isinstance(mask, Stack):
        return Stack(tuple(region_of(each) for each in mask.slices))
    return Union((_stored(mask),), (1,))


def read_numbers(mask: Source, max_pixels: int = MAX_PIXELS) -> NDArray[np.int32]:
    """The objects' numbers, (H, W) or of a volume (S, H, W).

    Raises:
        DataError: the mask cannot be read, holds colours, or went through lossy compression.
    """
    if isinstance(mask, Stack):
        return np.stack([read_numbers(each, max_pixels) for each in mask.slices])
    file = _stored(mask).read_mask(max_pixels=max_pixels)
    if file.rgb:
        raise DataError(
            mask, "holds colours, not numbers of objects", "Save the numbers as 8- or 16-bit grey"
        )
    if file.lossy:
        raise DataError(
            mask,
            "went through lossy compression, in which numbers of objects do not survive",
            "Save it as PNG or TIFF",
        )
    return file.values


def number_objects(masks: Iterable[Source], max_pixels: int = MAX_PIXELS) -> bool:
    """Whether these masks number their objects: whether any of them holds two numbers.

    Where each has only one value besides 0, that stands for a class.

    Raises:
        DataError: as :func:`read_numbers`, of the masks read until the answer is known.
    """
    maps = (read_numbers(mask, max_pixels) for mask in masks)
    return any(len(np.unique(values[values > 0])) > 1 for values in maps)


def object_labels(*declared: LabelMap | None) -> LabelMap:
    """The one class of numbered objects, with the first name that is ``declared`` for it.

    Raises:
        MedsegError: several classes are declared.
    """
    for labels in filter(None, declared):
        if len(labels.labels) > 2:
            raise MedsegError(
                "--instances",
                f"numbered objects are of one class, and there are {', '.join(labels.names)}",
                "Leave it out, or score each class's objects by themselves",
            )
        return LabelMap(tuple(Label(name, index) for index, name in enumerate(labels.names)))
    return LabelMap((Label("background", 0), Label("object", 1)))


def _stored(mask: Source) -> Source:
    """The mask as its file stores it: registered datasets show numbered objects as a class."""
    return mask.parts[0] if isinstance(mask, Union) and len(mask.parts) == 1 else mask
