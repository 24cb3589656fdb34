"""What a training adds to its weights before they leave: calibration, golden cases, a card."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
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
from medseg.data.case import IGNORE, Case, Label, LabelMap
from medseg.data.preprocess import to_channels
from medseg.data.slices import Whole
from medseg.data.volumes.cache import VolumeCache
from medseg.engine.golden import CANDIDATES, choose_golden_volumes, clearest, margin
from medseg.engine.plan import Plan
from medseg.engine.prepare import Material, Rows, volume_settings
from medseg.engine.progress import counting_bar
from medseg.engine.run import Run
from medseg.engine.volume_feed import VolumeFeed
from medseg.inference.bundle import (
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    Golden,
    Manifest,
    Postprocessing,
    Preprocessing,
    StoredLabel,
    StoredRegion,
    VolumeInput,
    stored_golden,
    write_bundle,
)
from medseg.inference.network import Model
from medseg.inference.volumes.model import VolumeModel
from medseg.metrics.probability import Tally
from medseg.networks.language.text_network import Asked, TextNetwork
from medseg.report.card import model_card
from medseg.report.overlay import class_colour

GOLDEN_SIDE = 384
"""Pixels of the longer side of a golden image; larger ones are made smaller."""

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
    cache: CaseCache | VolumeCache,
    rows: Rows,
    network: nn.Module,
    *,
    device: torch.device,
    console: Console,
    volumes: tuple[VolumeInput, VolumeFeed] | None = None,
    sentences: tuple[str, ...] = (),
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
        volumes: of a network of volumes, how they become its input, and what validates it.
        sentences: of a network of words, by which it is asked for each foreground class.
    """
    recipe, options = run.recipe, dict(run.recipe.network)
    asked: nn.Module = network
    if isinstance(network, TextNetwork):
        options, asked = network.portable(options), Asked(network, sentences)
    if options.get("side_heads"):
        # They have done their work in training.
        network.drop_side_heads()  # type: ignore[operator]
        options["side_heads"] = False
    # Cloned because weights may be tied, which safetensors refuses.
    weights = to_safetensors(
        {k: v.clone(memory_format=torch.contiguous_format) for k, v in network.state_dict().items()}
    )
    prompts = tuple(getattr(network, "prompts", ()))
    labels = pointed_at(material.labels) if prompts and not sentences else material.labels
    manifest = Manifest(
        system=recipe.system,
        network=json.loads(json.dumps(options)),
        num_classes=labels.num_classes,
        labels=tuple(
            StoredLabel(name=x.name, value=x.value, colour=_colour(index))
            for index, x in enumerate(labels.labels)
        ),
        rgb=labels.rgb,
        ignore=labels.ignore,
        regions=tuple(StoredRegion(name=x.name, classes=x.classes) for x in labels.regions),
        prompts=prompts,
        sentences=sentences,
        volume=None if volumes is None else volumes[0],
        preprocessing=Preprocessing(
            image_size=recipe.data.pixels if volumes is None else max(volumes[0].patch),
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
    if manifest.must_be_pointed:
        # Neither calibration nor golden cases: what it answers depends on the prompts.
        write_bundle(run.bundle, manifest, weights, card=model_card(manifest, epochs=run.epochs))
        return
    if volumes is not None:
        sample = take_volume_sample(volumes[1], network, console)
        temperature = fit_temperature(sample)
        scores = {**manifest.scores, **_calibration(sample, temperature)}
        manifest = manifest.model_copy(update={"temperature": temperature, "scores": scores})
        golden = choose_golden_volumes(
            VolumeModel(manifest, network, device="cpu"),
            _candidate_volumes(material),
            volumes[1].cache,
            recipe.predict.golden,
        )
        manifest = manifest.model_copy(update={"golden": stored_golden(golden)})
        card = model_card(manifest, epochs=run.epochs)
        write_bundle(run.bundle, manifest, weights, card=card, golden=golden)
        return
    assert isinstance(cache, CaseCache)
    sample = take_sample(Model(manifest, asked, device=str(device)), cache, rows.val, console)
    temperature = fit_temperature(sample)
    scores = {**manifest.scores, **_calibration(sample, temperature)}
    manifest = manifest.model_copy(update={"temperature": temperature, "scores": scores})
    golden = choose_golden(
        Model(manifest, asked, device="cpu"), _candidates(material), recipe.predict.golden
    )
    manifest = manifest.model_copy(update={"golden": stored_golden(golden)})
    card = model_card(manifest, epochs=run.epochs)
    write_bundle(run.bundle, manifest, weights, card=card, golden=golden)


def pointed_at(labels: LabelMap) -> LabelMap:
    """The classes of a model that is pointed at what it segments: background and one structure,
    which keeps name and value where the data have only one."""
    if len(labels.labels) == 2:
        return labels
    return LabelMap((Label("background", 0), Label("structure", 255)), ignore=None)


def _colour(index: int) -> str | None:
    return "#{:02x}{:02x}{:02x}".format(*class_colour(index)) if index else None


def volume_input(material: Material, plan: Plan) -> VolumeInput:
    """How volumes become the network's input, for its manifest."""
    settings, recipe = volume_settings(material, plan), plan.recipe
    augment = recipe.augment3d
    mirrored = augment.enabled and augment.flip_prob > 0
    return VolumeInput.model_validate(
        {
            "plane": settings.plane,
            "spacing_mm": settings.spacing,
            "patch": recipe.data.patch_size,
            "intensity": settings.intensity,
            "overlap": recipe.predict.overlap,
            "mirror": augment.flipped if mirrored else (),
        }
    )


def _facts(material: Material, cache: CaseCache | VolumeCache) -> dict[str, Any]:
    images = material.image_hashes()
    learnt = {case.id for case in material.parts["train"]}
    sizes = [(facts.height, facts.width) for facts in material.survey.cases if facts.id in learnt]
    heights, widths = zip(*sizes, strict=True)
    return material.facts(cache) | {
        "height": [min(heights), max(heights)],
        "width": [min(widths), max(widths)],
        "seen": sorted(
            {images[case] for case in _cached(material, cache)}
            | set(material.inherited.get("seen", ()))
        ),
    }


def _cached(material: Material, cache: CaseCache | VolumeCache) -> Sequence[str]:
    """Ids of the cases in the cache; of volumes, those of their slices."""
    if isinstance(cache, CaseCache):
        return cache.ids
    wholes = [*material.volumes["train"], *material.volumes["val"], *material.unlabelled_volumes]
    return [case.id for whole in wholes for case in whole.cases]


def take_volume_sample(feed: VolumeFeed, network: nn.Module, console: Console) -> Sample:
    """Go over the validation volumes once and keep evenly spaced voxels of them.

    Args:
        feed: of the training.
        network: with the weights that ship.
        console: for progress.
    """
    network = network.to(feed.device).eval()
    voxels = sum(math.prod(feed.cache.shapes[int(row)]) for row in feed.val)
    logits, classes, weights = [], [], []
    with counting_bar(console) as bar:
        task = bar.add_task("calibrating", total=len(feed.val))
        for row in map(int, feed.val):
            found, truths = [], []
            for index, plane in enumerate(feed.logits(row, network, nullcontext)):
                channels = max(2, len(plane))
                step = math.ceil(max(1.0, voxels * channels / _MAX_LOGITS) ** (1 / 3))
                if index % step:
                    continue
                truth = feed.cache.mask(row)[index, ::step, ::step]
                known = truth != IGNORE
                output = plane[:, ::step, ::step].cpu().numpy()[:, known].T
                if len(plane) == 1:
                    output = np.concatenate([np.zeros_like(output), output], axis=1)
                found.append(output)
                truths.append(truth[known])
            logits.append(np.concatenate(found))
            classes.append(np.concatenate(truths))
            weights.append(np.full(len(logits[-1]), 1 / max(1, len(logits[-1]))))
            bar.advance(task)
    network.cpu()
    return Sample(np.concatenate(logits), np.concatenate(classes), np.concatenate(weights))


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


def _candidate_volumes(material: Material) -> list[Whole]:
    """As :func:`_candidates`, by the hash of the first slice."""
    facts = {each.id: each for each in material.survey.cases}
    return sorted(
        material.volumes["val"],
        key=lambda whole: (
            all(facts[case.id].is_empty for case in whole.cases),
            facts[whole.cases[0].id].image_sha256,
        ),
    )


def choose_golden(model: Model, cases: list[Case], count: int) -> tuple[Golden, ...]:
    """The clearest of the first cases, and the masks that ``model`` gives them.

    Args:
        model: on the CPU, calibrated.
        cases: in order of preference.
        count: how many; none for 0.
    """

    def answered() -> Iterator[tuple[float, Golden]]:
        for case in cases[: CANDIDATES * count]:
            image = case.image.read_image(max_pixels=model.max_pixels)
            image = _smaller(to_channels(image, model.manifest.preprocessing.channels))
            size = (image.shape[0], image.shape[1])
            (found,) = model.infer([model.prepare(image)], [size], with_probabilities=True)
            assert found.probabilities is not None
            distance = margin(found.probabilities, model.manifest.threshold)
            yield distance, Golden(image, found.classes)

    return clearest(answered(), count)


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
