"""What is explained: the logits of a class over a region of the image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from medseg.data.case import LabelMap
from medseg.errors import DataError, MedsegError, nearest, plural

Box = tuple[int, int, int, int]
Point = tuple[int, int]


class NothingToExplainError(DataError):
    """An image in which the class or region asked for is not predicted, or does not exist."""


@dataclass(frozen=True)
class Target:
    """A class over a region of the network's grid.

    Attributes:
        index: of the class; 0 is background.
        weights: (S, S) float, how much of each cell belongs to the region, 0 to 1.
    """

    index: int
    weights: Tensor

    def logit(self, logits: Tensor) -> Tensor:
        """(B, K, S, S) logits to (B,) sums of the class's logit over the region.

        One logit channel is the foreground's; the background's is its negative.
        """
        if logits.shape[1] == 1:
            each = logits[:, 0] if self.index else -logits[:, 0]
        else:
            each = logits[:, self.index]
        return (each * self.weights).sum((-2, -1))

    def probability(self, logits: Tensor) -> Tensor:
        """(B, K, S, S) logits to (B,) mean probabilities of the class over the region."""
        if logits.shape[1] == 1:
            each = torch.sigmoid(logits[:, 0] if self.index else -logits[:, 0])
        else:
            each = torch.softmax(logits, dim=1)[:, self.index]
        return (each * self.weights).sum((-2, -1)) / self.weights.sum()


def class_index(label: str, labels: LabelMap) -> int:
    """The index of the class called ``label``.

    Raises:
        MedsegError: there is no such class.
    """
    if label not in labels.names:
        raise MedsegError(
            f"--label {label}", "the model has no such class", nearest(label, labels.names)
        )
    return labels.names.index(label)


def choose_region(
    classes: NDArray[np.uint8],
    labels: LabelMap,
    *,
    index: int | None = None,
    box: Box | None = None,
    at: Point | None = None,
) -> tuple[int, NDArray[np.bool_]]:
    """The class to explain, and where.

    Args:
        classes: (H, W) predicted class indices.
        labels: their names.
        index: of the class; by default the foreground class with most pixels, inside the box
            where there is one, or the class at ``at``.
        box: x, y, width, height in pixels; all of it is explained, whatever is predicted there.
        at: x, y of a pixel; the connected component of the prediction around it is explained.

    Returns:
        The class's index and the region, (H, W) bool, never empty. Without ``box`` and ``at`` it
        is where the class is predicted.

    Raises:
        NothingToExplainError: the class is not predicted, or the place lies outside the image.
    """
    height, width = classes.shape
    inside = np.ones(classes.shape, bool)
    if box is not None:
        x, y, w, h = box
        inside = np.zeros(classes.shape, bool)
        inside[y : y + h, x : x + w] = True
        if x + w > width or y + h > height or not inside.any():
            raise NothingToExplainError(
                f"--region {x},{y},{w},{h}",
                f"reaches beyond the image of {width} x {height} pixels",
                "Give x, y, width and height in pixels of the image",
            )
    if at is not None:
        x, y = at
        if x >= width or y >= height:
            raise NothingToExplainError(
                f"--at {x},{y}",
                f"lies outside the image of {width} x {height} pixels",
                "Give x and y in pixels of the image",
            )
        found = int(classes[y, x])
        if found == 0 and index is None:
            raise NothingToExplainError(
                f"--at {x},{y}", "background is predicted there", "Choose a pixel of a structure"
            )
        if index is not None and found != index:
            raise NothingToExplainError(
                f"--at {x},{y}",
                f"'{labels.names[found]}' is predicted there, not '{labels.names[index]}'",
                "Choose a pixel of that class",
            )
        components, _ = ndimage.label(classes == found, structure=np.ones((3, 3)))
        return found, components == components[y, x]
    if index is None:
        counts = np.bincount(classes[inside], minlength=len(labels.labels))
        index = int(counts[1:].argmax()) + 1
        if not counts[index] and not (box and labels.num_classes == 1):
            remedy = "Name a class with --label" if box else "Name a place with --region"
            raise NothingToExplainError("prediction", "holds nothing but background", remedy)
    region = inside if box is not None else classes == index
    if not region.any():
        raise NothingToExplainError(
            "prediction", f"holds no '{labels.names[index]}'", "Name a place with --region"
        )
    return index, region


def on_grid(region: NDArray[np.bool_], size: tuple[int, int]) -> Tensor:
    """(H, W) bool to (S, S) float: the share of each cell that the region covers."""
    weights = torch.from_numpy(region.astype(np.float32))[None, None]
    return F.adaptive_avg_pool2d(weights, size)[0, 0]


def parse_numbers(option: str, text: str, count: int) -> tuple[int, ...]:
    """``"4,5"`` to ``(4, 5)``.

    Raises:
        MedsegError: not ``count`` whole numbers from 0, or a box without a pixel.
    """
    parts = text.split(",")
    if len(parts) == count and all(part.strip().isdecimal() for part in parts):
        numbers = tuple(int(part) for part in parts)
        if count < 4 or min(numbers[2:]) > 0:
            return numbers
    example = "--at 120,80" if count == 2 else "--region 100,60,40,40"
    raise MedsegError(
        f"{option} {text}",
        f"is not {plural(count, 'whole number')} with commas between",
        f"Write e.g. {example}: {'x,y' if count == 2 else 'x,y,width,height'} in pixels",
    )
