"""What a training adds to its weights before they leave: calibration, golden cases, a card."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from safetensors.torch import save as to_safetensors
from torch import nn

from medseg.data.cache import CaseCache
from medseg.data.case import IGNORE, Case
from medseg.data.preprocess import to_channels
from medseg.engine.prepare import Material, Rows
from medseg.engine.progress import counting_bar
from medseg.engine.run import Run
from medseg.inference.bundle import (
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    Golden,
    Manifest,
    Postprocessing,
    Preprocessing,
    StoredLabel,
    StoredRegion,
    stored_golden,
    write_bundle,
)
from medseg.inference.network import Model
from medseg.metrics.probability import Tally
from medseg.report.card import model_card
from medseg.report.overlay import class_colour

GOLDEN_SIDE = 384
"""Pixels of the longer side of a golden image; larger ones are made smaller."""

# Engines differ in the last digits of a probability. Closer to a decision than this, rounding
# makes it, and the mask of such a pixel proves nothing.
_UNDECIDED = 2e-5
_CANDIDATES = 4

# Numbers kept of the validation part; fitting them takes about a second.
_MAX_LOGITS = 1_000_000


@dataclass(frozen=True)
class Sample:
    """Known pixels of the validation part and what the network says of them.

    Attributes:
        logits: ``(N, K)`` float32, K at least 2; a binary task's background has logit 0.
        classes: ``(N,)`` what they are.
        weights: ``(N,)``, by which every image counts as much as any other.
    """

    logits: NDArray[np.float32]
    classes: NDArray[np.uint8]
    weights: NDArray[np.float64]

    def probabilities(self, temperature: float) -> NDArray[np.float64]:
        """``(N, K)``, of the logits divided by ``temperature``."""
        return _softmax(_by_class(self.logits) / temperature).T

    def calibration_error(self, temperature: float) -> float:
        """Expected calibration error of all pixels, the mean over the foreground classes."""
        shares = self.probabilities(temperature)
        errors = []
        for index in range(1, shares.shape[1]):
            tally = Tally()
            tally.add(self.classes == index, shares[:, index])
            errors.append(tally.expected_calibration_error())
        return float(np.mean(errors))


def write_model(
    run: Run,
    material: Material,
    cache: CaseCache,
    rows: Rows,
    network: nn.Module,
    *,
    device: torch.device,
    console: Console,
) -> None:
    """Write the bundle of a finished run.

    Args:
        run: trained.
        material: what it was trained on.
        cache: likewise.
        rows: likewise.
        network: with the weights that ship, on the CPU.
        device: where to compute the validation part once more.
        console: for progress.
    """
    recipe = run.recipe
    # Cloned because weights may be tied, which safetensors refuses.
    weights = to_safetensors(
        {k: v.clone(memory_format=torch.contiguous_format) for k, v in network.state_dict().items()}
    )
    manifest = Manifest(
        system=recipe.system,
        network=json.loads(json.dumps(recipe.network)),
        num_classes=material.labels.num_classes,
        labels=tuple(
            StoredLabel(name=x.name, value=x.value, colour=_colour(index))
            for index, x in enumerate(material.labels.labels)
        ),
        rgb=material.labels.rgb,
        ignore=material.labels.ignore,
        regions=tuple(
            StoredRegion(name=x.name, classes=x.classes) for x in material.labels.regions
        ),
        preprocessing=Preprocessing(
            image_size=recipe.data.pixels,
            channels=material.channels,
            mean=rows.mean,
            std=rows.std,
        ),
        threshold=recipe.predict.threshold,
        postprocessing=Postprocessing(
            keep_largest=recipe.predict.keep_largest, min_pixels=recipe.predict.min_pixels
        ),
        licence=recipe.predict.licence,
        recipe=recipe.model_dump(mode="json"),
        data=_facts(material, cache),
        scores={"val_dice": run.val_dice},
        parameters=sum(p.numel() for p in network.parameters()),
        weights_sha256=hashlib.sha256(weights).hexdigest(),
    )
    sample = take_sample(Model(manifest, network, device=str(device)), cache, rows.val, console)
    temperature = fit_temperature(sample)
    scores = {**manifest.scores, **_calibration(sample, temperature)}
    manifest = manifest.model_copy(update={"temperature": temperature, "scores": scores})
    golden = choose_golden(
        Model(manifest, network, device="cpu"), _candidates(material), recipe.predict.golden
    )
    manifest = manifest.model_copy(update={"golden": stored_golden(golden)})
    card = model_card(manifest, epochs=run.epochs)
    write_bundle(run.bundle, manifest, weights, card=card, golden=golden)


def _colour(index: int) -> str | None:
    return "#{:02x}{:02x}{:02x}".format(*class_colour(index)) if index else None


def _facts(material: Material, cache: CaseCache) -> dict[str, Any]:
    images = material.image_hashes()
    learnt = {case.id for case in material.parts["train"]}
    sizes = [(facts.height, facts.width) for facts in material.survey.cases if facts.id in learnt]
    heights, widths = zip(*sizes, strict=True)
    return material.facts(cache) | {
        "height": [min(heights), max(heights)],
        "width": [min(widths), max(widths)],
        "seen": sorted(images[case] for case in cache.ids),
    }


def take_sample(
    model: Model, cache: CaseCache, rows: NDArray[np.int64], console: Console
) -> Sample:
    """Compute validation images once and keep evenly spaced pixels of them.

    Args:
        model: with a temperature of 1.
        cache: of the training and validation cases.
        rows: of the validation cases; a volume's slices are images by themselves.
        console: for progress.
    """
    side = cache.images.shape[1]
    channels = max(2, model.manifest.num_classes)
    step = math.ceil(math.sqrt(max(1.0, len(rows) * side * side * channels / _MAX_LOGITS)))
    logits, classes, weights = [], [], []
    with counting_bar(console) as bar:
        task = bar.add_task("calibrating", total=len(rows))
        for start in range(0, len(rows), model.batch_size):
            batch = rows[start : start + model.batch_size]
            inputs = np.stack([model.prepare(image) for image in cache.images[batch]])
            outputs = model.logits(torch.from_numpy(inputs))[:, :, ::step, ::step].cpu().numpy()
            truths = cache.masks[batch][:, ::step, ::step]
            for output, truth in zip(outputs, truths, strict=True):
                known = truth != IGNORE
                found = output[:, known].T
                if len(output) == 1:
                    found = np.concatenate([np.zeros_like(found), found], axis=1)
                logits.append(found)
                classes.append(truth[known])
                weights.append(np.full(len(found), 1 / max(1, len(found))))
            cache.release()
            bar.update(task, completed=start + len(batch))
    return Sample(np.concatenate(logits), np.concatenate(classes), np.concatenate(weights))


def fit_temperature(sample: Sample) -> float:
    """The temperature with the least negative log-likelihood (Guo et al. 2017, arXiv 1706.04599).

    Divided by 1/temperature the likelihood has one optimum, which bisection finds.

    Returns:
        ``MIN_TEMPERATURE`` to ``MAX_TEMPERATURE``, to four digits. 1 where pixels say nothing of
        it: there are none, they are all right, or the network does not tell them apart.
    """
    logits = _by_class(sample.logits)
    if not logits.size or not np.isfinite(logits).all() or not np.ptp(logits, axis=0).any():
        return 1.0
    right = sample.classes[None].astype(np.intp)
    truth = np.take_along_axis(logits, right, axis=0)[0]
    rivals = logits.copy()
    np.put_along_axis(rivals, right, -np.inf, axis=0)
    if (truth > rivals.max(axis=0)).all():
        return 1.0

    def slope(log_scale: float) -> float:
        """Of the negative log-likelihood over the factor of the logits; it only ever rises."""
        shares = _softmax(logits * math.exp(log_scale))
        return float(sample.weights @ ((shares * logits).sum(axis=0) - truth))

    low, high = -math.log(MAX_TEMPERATURE), -math.log(MIN_TEMPERATURE)
    if slope(low) >= 0:
        return MAX_TEMPERATURE
    if slope(high) <= 0:
        return MIN_TEMPERATURE
    while high - low > 1e-5:
        middle = (low + high) / 2
        low, high = (low, middle) if slope(middle) >= 0 else (middle, high)
    return float(f"{math.exp(-(low + high) / 2):.4g}")


def _calibration(sample: Sample, temperature: float) -> Mapping[str, float]:
    if not len(sample.logits) or not np.isfinite(sample.logits).all():
        return {}
    return {
        "val_ece_uncalibrated": sample.calibration_error(1.0),
        "val_ece": sample.calibration_error(temperature),
    }


def _by_class(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """``(N, K)`` to ``(K, N)``, over which sums are ten times as fast."""
    return np.ascontiguousarray(logits.T, dtype=np.float64)


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of ``(K, N)`` logits."""
    powers: NDArray[np.float64] = np.exp(logits - logits.max(axis=0))
    powers /= powers.sum(axis=0)
    return powers


def _candidates(material: Material) -> list[Case]:
    """Validation cases, those with foreground first; by the hash of the image, so that neither
    names nor a volume's neighbouring slices decide."""
    facts = {each.id: each for each in material.survey.cases}
    return sorted(
        material.parts["val"],
        key=lambda case: (facts[case.id].is_empty, facts[case.id].image_sha256),
    )


def choose_golden(model: Model, cases: list[Case], count: int) -> tuple[Golden, ...]:
    """The first ``count`` cases, and the masks that ``model`` gives them.

    An image with a pixel that rounding decides makes place for the next one, where there is one;
    of several such images the clearest stay.

    Args:
        model: on the CPU, calibrated.
        cases: in order of preference.
        count: how many; none for 0.
    """
    chosen: list[Golden] = []
    spare: list[tuple[float, Golden]] = []
    for case in cases[: _CANDIDATES * count]:
        if len(chosen) == count:
            break
        image = case.image.read_image(max_pixels=model.max_pixels)
        image = _smaller(to_channels(image, model.manifest.preprocessing.channels))
        size = (image.shape[0], image.shape[1])
        (found,) = model.infer([model.prepare(image)], [size], with_probabilities=True)
        assert found.probabilities is not None
        golden = Golden(image, found.classes)
        distance = margin(found.probabilities, model.manifest.threshold)
        if distance > _UNDECIDED:
            chosen.append(golden)
        else:
            spare.append((distance, golden))
    spare.sort(key=lambda each: -each[0])
    return tuple([*chosen, *(golden for _, golden in spare)][:count])


def margin(probabilities: NDArray[np.float32], threshold: float) -> float:
    """How far the least certain pixel's ``(K, H, W)`` probabilities are from another decision."""
    if len(probabilities) == 1:
        return float(np.abs(probabilities - threshold).min())
    best = np.sort(probabilities, axis=0)
    return float((best[-1] - best[-2]).min())


def _smaller(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width, channels = image.shape
    scale = GOLDEN_SIDE / max(height, width)
    if scale >= 1:
        return np.ascontiguousarray(image)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    planes = [
        Image.fromarray(np.ascontiguousarray(image[:, :, c])).resize(
            size, Image.Resampling.BILINEAR
        )
        for c in range(channels)
    ]
    return np.stack([np.asarray(plane) for plane in planes], axis=2)
