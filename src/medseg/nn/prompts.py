"""Prompts as tensors, and as maps that convolutions can read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medseg.data.prompts import Prompts

CERTAIN = 1e-4
"""Probabilities of an earlier mask are kept this far from 0 and 1 when they become logits."""


@dataclass(frozen=True, eq=False)
class PromptTensors:
    """What is pointed at in each image of a batch, in pixels of the network's input.

    Attributes:
        points: ``(B, N, 2)`` int64, x and y.
        labels: ``(B, N)`` int64: 1 for what is wanted, 0 for what is not, -1 where there is no
            point.
        boxes: ``(B, M, 4)`` int64, left, top, right, bottom, the last two one past the box; one
            without area is no box.
        scribbles: ``(B, 2, H, W)`` float in 0..1, on the structure and beside it.
        mask: ``(B, 1, H, W)`` float, logits of an earlier mask; 0 where there was none.
    """

    points: Tensor
    labels: Tensor
    boxes: Tensor
    scribbles: Tensor
    mask: Tensor

    @classmethod
    def none(cls, image: Tensor) -> PromptTensors:
        """Nothing is pointed at in ``image``, ``(B, C, H, W)``."""
        batch, _, height, width = image.shape
        whole = torch.zeros(batch, 0, dtype=torch.int64, device=image.device)
        return cls(
            whole.view(batch, 0, 1).expand(-1, -1, 2),
            whole,
            whole.view(batch, 0, 1).expand(-1, -1, 4),
            image.new_zeros(batch, 2, height, width),
            image.new_zeros(batch, 1, height, width),
        )

    @classmethod
    def of(
        cls, prompts: Sequence[Prompts], image: Tensor, previous: Tensor | None = None
    ) -> PromptTensors:
        """Prompts in pixels of the network's input, one record an image.

        Args:
            prompts: B records.
            image: ``(B, C, H, W)``, for its size, device and type.
            previous: ``(B, 1, H, W)`` logits of the mask to go on from; by default those of the
                records' masks.
        """
        clicks = max((len(each.points) for each in prompts), default=0)
        rectangles = max((len(each.boxes) for each in prompts), default=0)
        count, _, height, width = image.shape
        points = np.zeros((count, clicks, 2), np.int64)
        labels = np.full((count, clicks), -1, np.int64)
        boxes = np.zeros((count, rectangles, 4), np.int64)
        scribbles = np.zeros((count, 2, height, width), np.float32)
        mask = np.full((count, 1, height, width), 0.5, np.float32)
        for index, each in enumerate(prompts):
            for place, point in enumerate(each.points):
                points[index, place] = point.x, point.y
                labels[index, place] = point.positive
            for place, box in enumerate(each.boxes):
                boxes[index, place] = box.x0, box.y0, box.x1, box.y1
            if each.scribbles is not None:
                scribbles[index] = each.scribbles
            if each.mask is not None:
                mask[index, 0] = each.mask
        if previous is None:
            previous = torch.from_numpy(mask).clamp_(CERTAIN, 1 - CERTAIN).logit()
        return cls(
            torch.from_numpy(points).to(image.device),
            torch.from_numpy(labels).to(image.device),
            torch.from_numpy(boxes).to(image.device),
            torch.from_numpy(scribbles).to(image),
            previous.to(image),
        )


def click_maps(points: Tensor, labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Clicks as single pixels of 1: ``(B, N, 2)`` and ``(B, N)`` -> ``(B, 2, H, W)`` float32,
    those on what is wanted and those beside it."""
    height, width = size
    batch = len(points)
    # A third map takes what is no click, and is left out.
    which = torch.where(labels > 0, 0, torch.where(labels == 0, 1, 2))
    place = which * height * width + points[..., 1] * width + points[..., 0]  # (B, N)
    maps = torch.zeros(batch, 3 * height * width, device=points.device)
    maps.scatter_(1, place, 1.0)
    return maps.view(batch, 3, height, width)[:, :2]


def box_maps(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Filled rectangles: ``(B, M, 4)`` -> ``(B, 1, H, W)`` float32."""
    rows = torch.arange(size[0], device=boxes.device).view(1, 1, -1, 1)
    columns = torch.arange(size[1], device=boxes.device).view(1, 1, 1, -1)
    x0, y0, x1, y1 = (edge[..., None, None] for edge in boxes.unbind(-1))  # (B, M, 1, 1)
    inside = (x0 <= columns) & (columns < x1) & (y0 <= rows) & (rows < y1)  # (B, M, H, W)
    return inside.any(1, keepdim=True).float()
