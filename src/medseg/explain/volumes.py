"""Explaining the prediction for a volume: one slice, in one window around what is explained."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from medseg.data.case import Case
from medseg.data.slices import Stack, gather, volume_of
from medseg.data.source import Source
from medseg.data.volumes.resample import Shape
from medseg.errors import DataError
from medseg.explain.explanation import Explainer, Explanation
from medseg.explain.slice_view import SliceView
from medseg.explain.target import NothingToExplainError
from medseg.inference.logits import predicted_classes
from medseg.inference.volumes.geometry import padding, read_for_network
from medseg.inference.volumes.model import VolumeModel


class VolumeExplainer(Explainer):
    """Explains the slice with most voxels of the class, in the window whose middle is theirs.

    Maps and scores are those of that slice of the window, on the network's own grid: the other
    slices stay what they are (:class:`medseg.explain.slice_view.SliceView`).

    Args:
        model: of volumes.
        method: and what follows: as for :class:`Explainer`.
        layer: likewise.
        label: the class; by default the foreground class with most predicted voxels.
        steps: likewise.
        seed: likewise.
    """

    def __init__(
        self,
        model: VolumeModel,
        *,
        method: str = "seg-grad-cam",
        layer: str | None = None,
        label: str | None = None,
        steps: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(model, method=method, layer=layer, label=label, steps=steps, seed=seed)
        self.volume_model = model

    def sources(self, found: Mapping[str, Source]) -> dict[str, Source]:
        """Volumes by name, of their slices."""
        cases = [Case(name, source) for name, source in found.items()]
        wholes = gather(cases, pictures=self.volume_model.manifest.picture_slices)
        return {whole.id: whole.image for whole in wholes}

    def explain_source(
        self, source: Source, truth: NDArray[np.uint8] | None
    ) -> tuple[NDArray[np.uint8], Explanation]:
        """Explain a volume.

        Returns:
            The slice of the window as a picture (H, W, 1), and its explanation.

        Raises:
            NothingToExplainError: nothing of the class is predicted.
            DataError: a picture, or a volume that cannot be read.
        """
        del truth
        model = self.volume_model
        if volume_of(source) is None and not isinstance(source, Stack):
            raise DataError(source, "is a picture, and the model takes volumes", "Name a volume")
        channels = model.manifest.preprocessing.channels
        image, _ = read_for_network(source, model.settings, channels, model.max_pixels)
        index, middle = self._middle(image)
        pads = padding(image.shape[1:], model.settings.patch)
        window, place = cut_window(
            np.pad(image, ((0, 0), *pads)),
            [spot + before for spot, (before, _) in zip(middle, pads, strict=True)],
            model.settings.patch,
        )
        tensor = torch.from_numpy(window).to(model.device)
        view = SliceView(model.network, tensor, place).eval()
        inputs = tensor[None, :, place]
        with torch.no_grad():
            logits = view(inputs).float() / model.manifest.temperature
        classes: NDArray[np.uint8] = (
            predicted_classes(logits, model.manifest.threshold)[0].cpu().numpy()
        )
        if not (classes == index).any():
            raise NothingToExplainError(
                "prediction",
                f"holds no '{model.labels.names[index]}' in the window by itself",
                "Name another class with --label",
            )
        found = self.explain_inputs(view, inputs, logits, classes, index=index)
        return as_picture(window[0, place]), found

    def _middle(self, image: NDArray[np.float32]) -> tuple[int, list[int]]:
        """The class to explain, and the middle of its voxels in the slice with most of them."""
        model = self.volume_model
        shape = (image.shape[1], image.shape[2], image.shape[3])
        classes = model.classify(image, shape)
        index = self.index
        if index is None:
            counts = np.bincount(classes.ravel(), minlength=len(model.labels.labels))
            index = int(counts[1:].argmax()) + 1
        there = classes == index
        if not there.any():
            raise NothingToExplainError(
                "prediction", f"holds no '{model.labels.names[index]}'",
                "Name another class with --label",
            )  # fmt: skip
        chosen = int(there.sum(axis=(1, 2)).argmax())
        rows, columns = np.nonzero(there[chosen])
        return index, [chosen, round(float(rows.mean())), round(float(columns.mean()))]


def cut_window(
    volume: NDArray[np.float32], middle: list[int], patch: Shape
) -> tuple[NDArray[np.float32], int]:
    """The window of ``volume`` (C, S, H, W) around a voxel, as far as the edges allow, and the
    place of that voxel's slice in it."""
    starts = [
        min(max(0, spot - side // 2), length - side)
        for spot, side, length in zip(middle, patch, volume.shape[1:], strict=True)
    ]
    slices, rows, columns = (
        slice(start, start + side) for start, side in zip(starts, patch, strict=True)
    )
    return np.ascontiguousarray(volume[:, slices, rows, columns]), middle[0] - starts[0]


def as_picture(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A slice (H, W) of any values as a grey picture (H, W, 1): the 1st percentile is black, the
    99th white."""
    low, high = np.percentile(values, (1, 99))
    scaled = (values - low) / (high - low if high > low else 1)
    picture: NDArray[np.uint8] = np.round(255 * scaled.clip(0, 1)).astype(np.uint8)[:, :, None]
    return picture
