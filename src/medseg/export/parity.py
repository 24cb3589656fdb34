"""Whether an exported file gives the masks that PyTorch gave."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medseg.errors import ModelError
from medseg.export.formats import Artefact
from medseg.inference.bundle import Golden, Manifest
from medseg.inference.predictor import Prediction, Predictor
from medseg.inference.volumes.predictor import VolumeOptions, VolumePredictor

SAME = 1e-3
"""Probabilities of an image alone and in a batch differ by less."""

UNDECIDED = 2e-5
"""Engines differ in the last digits of a probability: closer to a decision than this, rounding
makes it, and such a pixel proves nothing."""

ATTEMPTS = 20


@dataclass(frozen=True)
class Difference:
    """How a mask differs from the expected one.

    Attributes:
        flipped: pixels of another class.
        pixels: of the image.
        farthest: of the flipped pixels, the largest distance of the probability from the
            threshold; with several classes, of the largest probability from the next.
    """

    flipped: int
    pixels: int
    farthest: float


def answer(predictor: Predictor, case: Golden) -> Prediction:
    """Classes and probabilities of the image or volume of a case."""
    if isinstance(predictor, VolumePredictor):
        options = VolumeOptions(with_probabilities=True)
        return predictor.predict_array(case.image, case.spacing, options)
    return predict(predictor, case.image)


def predict(predictor: Predictor, image: NDArray[np.uint8]) -> Prediction:
    """Classes and probabilities of one ``(H, W, C)`` image."""
    size = (image.shape[0], image.shape[1])
    return next(predictor.infer([predictor.prepare(image)], [size], with_probabilities=True))


def compare(predictor: Predictor, case: Golden) -> Difference:
    """How the mask of ``predictor`` differs from that of ``case``."""
    found = answer(predictor, case)
    assert found.probabilities is not None
    flipped = found.classes != case.classes
    distance = _from_decision(found.probabilities, predictor.manifest.threshold)
    farthest = float(distance[flipped].max()) if flipped.any() else 0.0
    return Difference(int(flipped.sum()), flipped.size, farthest)


def _from_decision(probabilities: NDArray[np.float32], threshold: float) -> NDArray[np.float32]:
    distance: NDArray[np.float32]
    if len(probabilities) == 1:
        distance = np.abs(probabilities[0] - np.float32(threshold))
        return distance
    second, first = np.partition(probabilities, -2, axis=0)[-2:]
    distance = first - second
    return distance


def check_parity(
    artefact: Artefact, cases: Sequence[Golden], name: str, reference: Predictor
) -> None:
    """Refuse an artefact that flips a pixel.

    Args:
        artefact: opened as its user will open it.
        cases: with the expected masks.
        name: of the artefact, for the message.
        reference: PyTorch on this machine, asked who is right where a pixel flips.

    Raises:
        ModelError: how many pixels of which cases flip, and how far from the decision.
    """
    differences = [compare(artefact.predictor, case) for case in cases]
    unit = "pixels" if reference.manifest.volume is None else "voxels"
    wrong = [
        f"{each.flipped:,} of {each.pixels:,} {unit} of case {number} "
        f"(at most {each.farthest:.1e} from the decision)"
        for number, each in enumerate(differences)
        if each.flipped
    ]
    if not wrong:
        return
    here = sum(compare(reference, case).flipped for case in cases)
    raise ModelError(
        name,
        f"it does not give PyTorch's masks: it flips {', '.join(wrong)}. Nothing was written",
        f"PyTorch on this machine flips {here:,} as well: the masks were made on another"
        if here
        else "Try another --format or --opset",
    )


def check_shapes(artefact: Artefact, name: str, *, alike: bool = True) -> None:
    """Refuse an artefact that does not take any batch, height and width.

    Args:
        artefact: opened.
        name: of it, for the message.
        alike: an image must have the same probabilities alone and in a batch. In 8 bits the last
            digit of a float may decide between two steps, and they differ visibly.

    Raises:
        ModelError: it fails, gives another shape, or an image gets another answer in a batch.
    """
    manifest = artefact.predictor.manifest
    for height, width in ((37, 50), (72, 41)):
        batch = np.stack([synthetic(manifest, (height, width), seed) for seed in (0, 1)])
        try:
            mask, shares = artefact.run(batch)
            alone = np.concatenate([artefact.run(image[None])[1] for image in batch])
        except Exception as error:
            raise ModelError(
                name, f"it fails on two images of {width} x {height} pixels ({error})",
                "The network must take any batch: report it to its author",
            ) from error  # fmt: skip
        due = (2, manifest.num_classes, height, width)
        if shares.shape != due or mask.shape != (2, height, width):
            raise ModelError(
                name,
                f"of two images of {width} x {height} pixels it makes {shares.shape}, not {due}",
                "The network must keep the size of its image: report it to its author",
            )
        if alike and np.abs(shares - alone).max() > SAME:
            raise ModelError(
                name, f"two images of {width} x {height} pixels get other masks than each alone",
                "The network must treat images of a batch alike: report it to its author",
            )  # fmt: skip


def check_windows(predictor: VolumePredictor, reference: VolumePredictor, name: str) -> None:
    """Refuse an artefact that puts windows together to other probabilities.

    Args:
        predictor: the artefact, opened as its user will open it.
        reference: PyTorch on this machine.
        name: of the artefact, for the message.

    Raises:
        ModelError: a volume of eight windows has others.
    """
    step = 1 - reference.settings.overlap
    slices, rows, columns = (side + max(1, int(side * step)) for side in reference.settings.patch)
    case = synthetic_volume(reference, (slices, rows, columns), 0)
    found, due = (answer(each, case).probabilities for each in (predictor, reference))
    assert found is not None
    assert due is not None
    # NaN is not below it either.
    farthest = float(np.abs(found - due).max())
    if not farthest <= SAME:
        raise ModelError(
            name,
            f"probabilities of a volume of {slices} x {rows} x {columns} voxels differ from "
            f"PyTorch's by up to {farthest:.1e}. Nothing was written",
            "Try another --opset",
        )


def synthetic_volume(reference: VolumePredictor, shape: tuple[int, int, int], seed: int) -> Golden:
    """Seeded noise of ``shape`` on the model's own grid, and the mask that ``reference`` gives it.

    It has the spread that the model's normalisation expects where that is fixed.
    """
    random = np.random.default_rng(seed)
    planes = []
    for rule in reference.settings.intensity:
        low, high = (-2.0, 2.0) if rule.low is None or rule.high is None else (rule.low, rule.high)
        planes.append(random.uniform(low, high, shape))
    image = np.stack(planes).astype(np.float32)
    spacing = reference.settings.spacing_mm
    return Golden(image, reference.predict_array(image, spacing).classes, spacing)


def synthetic_cases(reference: Predictor) -> tuple[Golden, ...]:
    """Noise of three sizes with the masks that ``reference`` gives it."""
    side = reference.manifest.preprocessing.image_size
    sizes = ((side, side), (side + side // 3, side // 2 + 1), (side // 2 + 7, side + 5))
    return tuple(
        next(
            decided(reference, (synthetic(reference.manifest, size, s) for s in range(ATTEMPTS)), 1)
        )
        for size in sizes
    )


def decided(
    reference: Predictor, images: Iterable[NDArray[np.uint8]], count: int
) -> Iterator[Golden]:
    """``count`` images with the masks that ``reference`` gives them; those without a pixel that
    rounding decides first."""
    spare = []
    for image in images:
        if not count:
            return
        found = predict(reference, image)
        assert found.probabilities is not None
        case = Golden(image, found.classes)
        distance = _from_decision(found.probabilities, reference.manifest.threshold)
        if distance.min() > UNDECIDED:
            count -= 1
            yield case
        else:
            spare.append(case)
    yield from spare[:count]


def synthetic(manifest: Manifest, size: tuple[int, int], seed: int) -> NDArray[np.uint8]:
    """``(H, W, C)`` uint8: seeded blots an eighth of the image wide, and a little noise."""
    random = np.random.default_rng(seed)
    height, width = size
    blots = random.integers(0, 256, (manifest.preprocessing.channels, 8, 8), dtype=np.uint8)
    planes = [
        np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.BICUBIC))
        for plane in blots
    ]
    image = np.stack(planes, axis=2).astype(np.int16) + random.integers(-8, 9, (height, width, 1))
    return image.clip(0, 255).astype(np.uint8)
