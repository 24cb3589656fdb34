"""Explaining a prediction for one image."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medseg.data.source import Source
from medseg.errors import DataError, MedsegError
from medseg.explain import scores
from medseg.explain.evidence import (
    STEPS,
    Evidence,
    Method,
    check_method,
    find_evidence,
    resized,
    shown,
)
from medseg.explain.layers import Layer, choose_layer, find_layers
from medseg.explain.scores import MOST_ALIKE, Faithfulness, Pointing
from medseg.explain.slice_view import SliceView
from medseg.explain.target import Box, Point, Target, choose_region, class_index, on_grid
from medseg.inference.network import Model
from medseg.inference.predictor import as_image
from medseg.inference.volumes.model import VolumeModel

CHECKS = 3
"""Re-initialised networks that a map is compared with."""

Check = Literal["passed", "failed", "undefined"]

_PIXELS_AT_ONCE = 256 * 256


@dataclass(frozen=True)
class Randomisation:
    """How alike the maps of the network and of re-initialised copies are (means).

    Attributes:
        correlation: absolute rank correlation, 0 to 1; NaN for an empty map.
        similarity: SSIM.
    """

    correlation: float
    similarity: float


@dataclass(frozen=True)
class Explanation:
    """A heat map and how far it can be trusted.

    Attributes:
        map: (H, W) float32, 0 to 1, evidence for the class; all 0 where there is none.
        region: (H, W) bool, what was explained.
        label: the class.
        method: how it was made.
        layer: whose map it comes from; None for methods that need none.
        steps: None for methods without.
        probability: mean probability of the class over the region.
        faithfulness: deletion and insertion.
        pointing: against the region.
        truth_pointing: against the true mask of the class; None without one.
        randomisation: the sanity check.
        completeness: of integrated gradients, by what share the map's sum misses the change
            of the target's logit; None for other methods.
    """

    map: NDArray[np.float32]
    region: NDArray[np.bool_]
    label: str
    method: Method
    layer: str | None
    steps: int | None
    probability: float
    faithfulness: Faithfulness
    pointing: Pointing
    truth_pointing: Pointing | None
    randomisation: Randomisation
    completeness: float | None

    @property
    def check(self) -> Check:
        """Whether the map depends on what was learnt; of an empty one nobody can say."""
        if math.isnan(self.randomisation.correlation):
            return "undefined"
        return "passed" if self.randomisation.correlation <= MOST_ALIKE else "failed"

    @property
    def no_better_than_shuffled(self) -> bool:
        """Whether neither deletion nor insertion tells the map from shuffled ones."""
        found = self.faithfulness
        return (
            found.deletion >= found.shuffled_deletion
            and found.insertion <= found.shuffled_insertion
        )

    @property
    def warnings(self) -> list[str]:
        """What a reader of the picture must know."""
        if not self.map.any():
            return ["EMPTY MAP: no evidence for the class was found."]
        said = []
        if self.check == "failed":
            said.append(
                "FAILS THE SANITY CHECK: networks with random weights give nearly the same map "
                f"(rank correlation {self.randomisation.correlation:.2f} > {MOST_ALIKE:g})."
            )
        if self.no_better_than_shuffled:
            said.append(
                "NO BETTER THAN CHANCE: deletion and insertion are no better than those of "
                "shuffled maps."
            )
        if self.completeness is not None and not self.completeness <= 0.05:
            said.append(
                f"INEXACT: the map's sum is off by {100 * self.completeness:.0f} %; raise --steps."
            )
        return said

    def row(self) -> dict[str, Any]:
        """All numbers by the name of their column; NaN where undefined."""
        truth = self.truth_pointing or Pointing(math.nan, math.nan, math.nan)
        return {
            "class": self.label,
            "method": self.method,
            "layer": self.layer or "",
            "region_pixels": int(self.region.sum()),
            "probability": self.probability,
            "deletion": self.faithfulness.deletion,
            "deletion_shuffled": self.faithfulness.shuffled_deletion,
            "insertion": self.faithfulness.insertion,
            "insertion_shuffled": self.faithfulness.shuffled_insertion,
            "energy": self.pointing.energy,
            "pointing": self.pointing.hit,
            "area": self.pointing.area,
            "truth_energy": truth.energy,
            "truth_pointing": truth.hit,
            "truth_area": truth.area,
            "random_correlation": self.randomisation.correlation,
            "random_ssim": self.randomisation.similarity,
            "completeness_error": math.nan if self.completeness is None else self.completeness,
            "sanity_check": self.check,
            "warnings": " ".join(self.warnings),
        }


class Explainer:
    """A model with all that is the same for every image to be explained.

    Args:
        model: from :func:`medseg.load`.
        method: ``seg-grad-cam``, ``grad-cam++``, ``integrated-gradients`` or ``occlusion``.
        layer: for the first two: whose map to weight; by default the last stage before
            the image's full size.
        label: the class; by default the foreground class with most predicted pixels.
        box: x, y, width, height in pixels: explain the class over all of this box.
        at: x, y: explain the connected component of the prediction that this pixel lies in.
        steps: for the last two methods: points of the path (32), patches along a side (12).
        seed: of the shuffled and re-initialised controls.

    Raises:
        MedsegError: an option that does not exist, or does not fit the method.
    """

    def __init__(
        self,
        model: Model | VolumeModel,
        *,
        method: str = "seg-grad-cam",
        layer: str | None = None,
        label: str | None = None,
        box: Box | None = None,
        at: Point | None = None,
        steps: int | None = None,
        seed: int = 0,
    ) -> None:
        self.model: Model | VolumeModel = model
        self.method = check_method(method)
        self.index = None if label is None else class_index(label, model.labels)
        if box is not None and at is not None:
            raise MedsegError("--region and --at", "both are given", "Give one of them")
        self.box, self.at, self.seed = box, at, seed
        self.layer: str | None = None
        self.steps: int | None = None
        # Of a model of volumes: the longest side of its window.
        size = model.manifest.preprocessing.image_size
        # Small images are batched on a CPU too, where calling each layer would cost most.
        self.batch_size = max(model.batch_size, min(16, _PIXELS_AT_ONCE // size**2))
        if self.method in STEPS:
            if layer is not None:
                raise MedsegError(
                    f"--layer {layer}",
                    f"{method} looks at the image, not at a layer",
                    "Leave it out, or use --method seg-grad-cam",
                )
            self.steps = STEPS[self.method] if steps is None else steps
            most = size if self.method == "occlusion" else 10_000
            if not 1 <= self.steps <= most:
                raise MedsegError(
                    f"--steps {steps}", "is out of range", f"Give 1 to {most} for {method}"
                )
        else:
            if steps is not None:
                raise MedsegError(
                    f"--steps {steps}",
                    f"{method} makes no steps",
                    "Leave it out, or use --method integrated-gradients or occlusion",
                )
            self.layer = choose_layer(
                layers_of(model), layer, size, model.manifest.num_classes
            ).name

    def sources(self, found: Mapping[str, Source]) -> dict[str, Source]:
        """What is explained, by name, of images and slices by name."""
        return dict(found)

    def explain_source(
        self, source: Source, truth: NDArray[np.uint8] | None
    ) -> tuple[NDArray[np.uint8], Explanation]:
        """:meth:`explain` of what lies at ``source``, and the image (H, W, C) to draw it over."""
        image = source.read_image(max_pixels=self.model.max_pixels)
        return image, self.explain(image, truth)

    def explain(
        self, image: NDArray[np.uint8], truth: NDArray[np.uint8] | None = None
    ) -> Explanation:
        """Explain the prediction for an image.

        Args:
            image: (H, W, C) uint8.
            truth: (H, W) true class indices, for the pointing game, or None.

        Raises:
            NothingToExplainError: nothing of the class is predicted, or the place does not exist.
            DataError: a truth of another size.
        """
        model = self.model
        assert isinstance(model, Model)
        size = (image.shape[0], image.shape[1])
        if truth is not None and truth.shape != size:
            raise DataError(
                "true mask",
                f"has {truth.shape[1]} x {truth.shape[0]} pixels, the image {size[1]} x {size[0]}",
                "Give the mask of this image",
            )
        inputs = model.preprocess(image)[None].to(model.device)
        logits = model.logits(inputs)
        classes = model.classes(model.resize_logits(logits[0], size))
        return self.explain_inputs(model.network, inputs, logits, classes, truth)

    def explain_inputs(
        self,
        network: nn.Module,
        inputs: Tensor,
        logits: Tensor,
        classes: NDArray[np.uint8],
        truth: NDArray[np.uint8] | None = None,
        *,
        index: int | None = None,
    ) -> Explanation:
        """Explain what a network makes of its inputs.

        Args:
            network: ``inputs`` to logits, not calibrated.
            inputs: (1, C, S, T).
            logits: (1, K, S, T), calibrated.
            classes: (H, W) predicted class indices, on the image's grid.
            truth: (H, W) true class indices, or None.
            index: of the class, where it is not the explainer's own.

        Raises:
            NothingToExplainError: nothing of the class is predicted, or the place does not exist.
        """
        size = (classes.shape[0], classes.shape[1])
        index, region = choose_region(
            classes,
            self.model.labels,
            index=self.index if index is None else index,
            box=self.box,
            at=self.at,
        )
        grid = (inputs.shape[-2], inputs.shape[-1])
        target = Target(index, on_grid(region, grid).to(inputs.device))
        evidence = self._evidence(network, inputs, target)
        full = shown(resized(shown(evidence.values), size))
        return Explanation(
            map=full,
            region=region,
            label=self.model.labels.names[index],
            method=self.method,
            layer=self.layer,
            steps=self.steps,
            probability=float(target.probability(logits)),
            faithfulness=scores.faithfulness(
                network,
                inputs,
                target,
                evidence.values,
                seed=self.seed,
                batch_size=self.batch_size,
            ),
            pointing=scores.pointing(full, region),
            truth_pointing=None if truth is None else scores.pointing(full, truth == index),
            randomisation=self._randomisation(network, inputs, target, evidence.values),
            completeness=evidence.completeness,
        )

    def _evidence(self, network: nn.Module, inputs: Tensor, target: Target) -> Evidence:
        return find_evidence(
            network,
            inputs,
            target,
            method=self.method,
            layer=self.layer,
            steps=self.steps,
            batch_size=self.batch_size,
        )

    def _randomisation(
        self, network: nn.Module, inputs: Tensor, target: Target, values: NDArray[np.float32]
    ) -> Randomisation:
        learnt = shown(values)
        correlations, similarities = [], []
        for number in range(CHECKS):
            fresh = scores.reinitialised(network, inputs, CHECKS * self.seed + number)
            other = shown(self._evidence(fresh, inputs, target).values)
            correlations.append(abs(scores.rank_correlation(learnt, other)))
            similarities.append(scores.structural_similarity(learnt, other))
        return Randomisation(math.fsum(correlations) / CHECKS, math.fsum(similarities) / CHECKS)


def explain(
    model: Model,
    image: str | Path | NDArray[np.uint8],
    *,
    method: str = "seg-grad-cam",
    layer: str | None = None,
    label: str | None = None,
    box: Box | None = None,
    at: Point | None = None,
    steps: int | None = None,
    truth: NDArray[np.uint8] | None = None,
    seed: int = 0,
) -> Explanation:
    """Explain a model's prediction for one image, and score the explanation.

    Args:
        image: a file, or an array (H, W) or (H, W, C) uint8.
        truth: (H, W) true class indices, for the pointing game, or None.

    The other arguments are those of :class:`Explainer`.

    Raises:
        MedsegError: an option that does not exist, or does not fit the method.
        NothingToExplainError: nothing of the class is predicted, or the place does not exist.
        DataError: an unreadable file, or an array of another shape or type.
    """
    explainer = Explainer(
        model, method=method, layer=layer, label=label, box=box, at=at, steps=steps, seed=seed
    )
    return explainer.explain(as_image(image, model.max_pixels), truth)


def layers_of(model: Model | VolumeModel) -> list[Layer]:
    """The layers of a model's network that can be explained, with their maps' shapes."""
    if isinstance(model, VolumeModel):
        channels, patch = model.manifest.preprocessing.channels, model.settings.patch
        window = torch.zeros(channels, *patch, device=model.device)
        return find_layers(SliceView(model.network, window, 0), window[None, :, 0])
    size = model.manifest.preprocessing.image_size
    return find_layers(model.network, _blank(model, size))


def _blank(model: Model, size: int) -> Tensor:
    channels = model.manifest.preprocessing.channels
    return model.preprocess(np.zeros((size, size, channels), np.uint8))[None].to(model.device)
