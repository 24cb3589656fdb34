"""What ``auto`` means: every number chosen from the data, the network and the machine."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from medseg import __version__
from medseg.data.fingerprint import ClassFacts, Fingerprint
from medseg.data.volumes.fingerprint import VolumeFingerprint
from medseg.engine.memory import MARGIN, Forecast, forecast_memory, free_memory
from medseg.errors import MedsegError, plural
from medseg.files import write_text
from medseg.methods.method import Method
from medseg.methods.registry import batch_unit, method_class
from medseg.recipe import LossSettings, Recipe

PRESENTATIONS = 30_000
IMAGE_SIZE = 256

_LARGER = (384, 512)
_SMALLEST = 64
_STEP = 32

# Below these a structure is hardly more than noise to the network: three pixels across, and a
# mask of which resizing loses a tenth.
_WIDTH_KEPT = 3.0
_DICE_KEPT = 0.9

Build = Callable[[Recipe], Method]


@dataclass(frozen=True, slots=True)
class Choice:
    """A line of the plan.

    Attributes:
        value: what was chosen.
        auto: whether the plan chose it; else the recipe said so.
        reason: why, in words.
    """

    value: Any
    auto: bool
    reason: str


@dataclass(frozen=True)
class Plan:
    """How a training will go, and why.

    Attributes:
        recipe: with no ``auto`` left.
        choices: the lines; keys of the recipe where there is one, so that ``--set KEY=VALUE``
            overrides a line.
        fingerprint: what they were chosen from.
        device: ``cpu``, ``cuda`` or ``mps``.
        processes: that share each step.
        forecast: memory that each process needs at its peak; None when the network cannot be
            tried without data.
        free: bytes of memory that a process may take; None when unknown.
    """

    recipe: Recipe
    choices: dict[str, Choice]
    fingerprint: Fingerprint | VolumeFingerprint
    device: str
    processes: int
    forecast: Forecast | None
    free: int | None

    def to_json(self) -> dict[str, Any]:
        """The plan as plain dicts, lists, numbers and text: the content of ``plan.json``."""
        return {
            "medseg": __version__,
            "system": self.recipe.system,
            "device": self.device,
            "processes": self.processes,
            "plan": {key: asdict(choice) for key, choice in self.choices.items()},
            "memory": {
                "forecast_gb": _gigabytes(None if self.forecast is None else self.forecast.total),
                "free_gb": _gigabytes(self.free),
                "parts_gb": {
                    name: _gigabytes(size)
                    for name, size in (asdict(self.forecast) if self.forecast else {}).items()
                },
            },
            "fingerprint": self.fingerprint.to_json(),
        }

    def save(self, path: Path) -> None:
        """Write :meth:`to_json`, atomically."""
        write_text(path, json.dumps(self.to_json(), indent=1, ensure_ascii=False))

    @property
    def memory(self) -> str:
        """The forecast in words."""
        if self.forecast is None:
            return "not forecast: the network needs real images to be tried"
        each = " in each process" if self.processes > 1 else ""
        of = "" if self.free is None else f" of {self.free / 1e9:.1f} GB free"
        more = self.free is not None and self.forecast.total > self.free
        size = "data.patch" if self.recipe.data.dims == 3 else "--image-size"
        warning = f": more than there is; lower --batch-size or {size}" if more else ""
        return f"{self.forecast.total / 1e9:.1f} GB{each} at the peak (forecast){of}{warning}"


def plan_epochs(cases: int) -> int:
    """Epochs for ``cases`` training images: 30,000 presentations, within 30 and 300 epochs."""
    return max(30, min(300, round(PRESENTATIONS / cases)))


def plan_batch_size(cases: int, image_size: int, device: str) -> int:
    """Images per step: 16 on a GPU; 8 on a CPU, where larger steps are no faster, but 3 at 256 px
    and fewer above, to bound memory; fewer when an epoch would have less than four steps."""
    return max(1, min(_affordable(image_size, device), cases // 4 or 1))


def _affordable(image_size: int, device: str) -> int:
    return 16 if device != "cpu" else max(1, min(8, round(3 * 256**2 / image_size**2)))


def plan_image_size(
    fingerprint: Fingerprint, *, presentations: int, device: str, fits: Callable[[int], bool]
) -> tuple[int, str]:
    """Pixels a side, a multiple of 32 between 64 and 512, and why.

    256, but less when all training images are smaller. More when at 256 px the smallest 5 % of a
    class's objects would be less than 3 px across, or a class's masks would keep a Dice below 0.9
    when they are resized: then the smallest of 384 and 512 px that mends it, or else the larger
    one, as far as the images have the pixels, memory suffices and, on a CPU, training takes no
    longer than 30,000 presentations at 256 px.

    Args:
        fingerprint: of the data.
        presentations: training images times epochs.
        device: ``cpu``, ``cuda`` or ``mps``.
        fits: whether a step of one image of this size fits into memory.
    """
    enough = max(_SMALLEST, -(-fingerprint.longest // _STEP) * _STEP)
    if enough < IMAGE_SIZE:
        reason = f"no training image is larger than {fingerprint.longest} px"
        return enough, reason + _objects_clause(fingerprint, enough)
    lost = [facts for facts in fingerprint.classes if not _survives(facts, IMAGE_SIZE)]
    sizes = sorted({min(size, enough) for size in _LARGER} - {IMAGE_SIZE})
    if not lost or not sizes:
        return IMAGE_SIZE, "the default" + _objects_clause(fingerprint, IMAGE_SIZE)
    worst = min(lost, key=lambda facts: facts.kept[IMAGE_SIZE])
    wanted = next((size for size in sizes if all(_survives(c, size) for c in lost)), sizes[-1])
    chosen, refusal = IMAGE_SIZE, ""
    for size in sizes[: sizes.index(wanted) + 1]:
        times = (size / IMAGE_SIZE) ** 2
        if device == "cpu" and presentations * times > PRESENTATIONS:
            refusal = f"would take {times:.1f} times as long as {IMAGE_SIZE} px, on a CPU"
        elif not fits(size):
            refusal = "would not fit into memory"
        else:
            chosen = size
    reason = (
        f"resized to {IMAGE_SIZE} px, masks of '{worst.name}' keep {_remains(worst, IMAGE_SIZE)}"
    )
    if chosen > IMAGE_SIZE:
        reason += f"; at {chosen} px {_remains(worst, chosen)}"
    if chosen < wanted:
        reason += f"; {wanted} px ({_remains(worst, wanted)}) {refusal}"
    return chosen, reason


def _survives(facts: ClassFacts, size: int) -> bool:
    wide = not facts.objects.count or size * facts.objects.share[0] >= _WIDTH_KEPT
    return wide and facts.kept.get(size, 1.0) >= _DICE_KEPT


def _remains(facts: ClassFacts, size: int) -> str:
    dice = f"a Dice of {facts.kept.get(size, 1.0):.2f}"
    if not facts.objects.count:
        return dice
    return f"{dice} and the smallest 5 % of objects {size * facts.objects.share[0]:.1f} px"


def _objects_clause(fingerprint: Fingerprint, size: int) -> str:
    """How large the smallest class's objects are at ``size``, as the end of a sentence."""
    shown = [facts for facts in fingerprint.classes if facts.objects.count]
    if not shown:
        return ""
    least = min(shown, key=lambda facts: facts.objects.share[1])
    small, median, _ = (size * share for share in least.objects.share)
    return (
        f"; the median object of '{least.name}' is {median:.0f} px across, the smallest 5 % "
        f"{small:.1f} px (half of that at {size // 2} px)"
    )


def make_plan(
    recipe: Recipe,
    fingerprint: Fingerprint,
    *,
    layout: str,
    device: torch.device,
    precision: str,
    processes: int,
    build: Build,
) -> Plan:
    """Choose everything that the recipe leaves to ``auto``.

    Args:
        recipe: what the user and the system's card say.
        fingerprint: of the data.
        layout: of the data.
        device: to train on.
        precision: of the training; resolved.
        processes: that share each step.
        build: makes the method, with its network, for a recipe.

    Raises:
        MedsegError: not even one image a process fits into memory.
    """
    data, train = recipe.data, recipe.train
    cases, channels = fingerprint.training, fingerprint.channels
    free = free_memory(device)

    @cache
    def forecast(image_size: int, batch_size: int) -> Forecast | None:
        try:
            return forecast_memory(
                build(recipe),
                image_size=image_size,
                channels=channels,
                batch_size=max(1, batch_size // processes),
                precision=precision,
                device=device.type,
            )
        except MedsegError:
            raise
        except Exception:
            # A network may do with real images what cannot be done without any; its training
            # must not fail for want of a forecast, and the plan says that there is none.
            return None

    def fits(image_size: int, batch_size: int) -> bool:
        needed = forecast(image_size, batch_size)
        return needed is None or free is None or needed.total * MARGIN <= free

    epochs = _epochs(recipe, cases)
    size = Choice(data.image_size, False, "set")
    if data.image_size == "auto":
        chosen, reason = plan_image_size(
            fingerprint,
            presentations=epochs.value * cases,
            device=device.type,
            fits=lambda size: fits(size, processes),
        )
        size = Choice(chosen, True, reason)
    batch = Choice(train.batch_size, False, "set")
    if train.batch_size == "auto":
        unit = processes * batch_unit(method_class(recipe.method))
        chosen, reason = _choose_batch(
            cases, size.value, device.type, processes, unit,
            lambda batch: fits(size.value, batch),
        )  # fmt: skip
        batch = Choice(chosen, True, reason)
    needed = forecast(size.value, batch.value)
    if batch.auto and needed is not None and free is not None and needed.total > free:
        raise _too_large(needed, free, size.value, batch.value, processes)
    patience = patience_choice(recipe, epochs.value)
    choices = {
        "data.image_size": size,
        "data.channels": _channels(recipe, channels),
        "normalisation": _normalisation(fingerprint),
        "train.batch_size": batch,
        "train.epochs": epochs,
        "train.patience": patience,
        "train.precision": precision_choice(recipe, precision, device.type),
        "loss": loss_choice(
            recipe, {facts.name: facts.pixel_share for facts in fingerprint.classes}, "pixels"
        ),
    }
    planned = {
        "epochs": epochs.value,
        "batch_size": batch.value,
        "patience": patience.value,
        "precision": precision,
    }
    resolved = {"image_size": size.value, "layout": layout, "channels": channels}
    recipe = recipe.model_copy(
        update={
            "data": data.model_copy(update=resolved),
            "train": train.model_copy(update=planned),
        }
    )
    return Plan(recipe, choices, fingerprint, device.type, processes, needed, free)


def _choose_batch(
    cases: int, size: int, device: str, processes: int, unit: int, fits: Callable[[int], bool]
) -> tuple[int, str]:
    """The rule's batch, or the largest below it that fits; a multiple of ``unit``, which is the
    processes or a multiple of them."""
    planned = plan_batch_size(cases, size, device)
    rule = max(1, planned // unit)
    each = rule
    if not fits(rule * unit):
        low, high = 1, rule
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fits(middle * unit) else (low, middle)
        each = low
    if planned < _affordable(size, device):
        reason = f"a quarter of the {plural(cases, 'training image')}"
    elif device != "cpu":
        reason = "the default on a GPU"
    elif planned == 8:
        reason = "larger steps are no faster on a CPU"
    else:
        reason = f"bounds the memory at {size} px on a CPU"
    if processes > 1:
        reason += f"; shared evenly by {processes} processes"
    if unit > processes:
        reason += f"; a multiple of {unit} for the method"
    if each < rule:
        reason += f"; {rule * unit} would not fit into memory"
    return each * unit, reason


def _too_large(needed: Forecast, free: int, size: int, batch: int, processes: int) -> MedsegError:
    return MedsegError(
        "memory",
        f"a step of {plural(max(1, batch // processes), 'image')} of {size} px takes "
        f"{needed.total / 1e9:.1f} GB (forecast), and {free / 1e9:.1f} GB are free",
        "Lower --image-size, take a smaller network (`medseg systems list`), or end other "
        f"programs; --batch-size {batch} tries it all the same",
    )


def _epochs(recipe: Recipe, cases: int) -> Choice:
    if recipe.train.epochs != "auto":
        return Choice(recipe.train.epochs, False, "set")
    reason = f"{PRESENTATIONS:,} presentations of {plural(cases, 'image')}, within 30 to 300 epochs"
    return Choice(plan_epochs(cases), True, reason)


def patience_choice(recipe: Recipe, epochs: int) -> Choice:
    """Epochs without improvement before stopping."""
    if recipe.train.patience != "auto":
        return Choice(recipe.train.patience, False, "set")
    return Choice(max(10, epochs // 3), True, "a third of the epochs, at least 10")


def _channels(recipe: Recipe, channels: int) -> Choice:
    if recipe.data.channels != "auto":
        return Choice(channels, False, "set")
    reasons = {1: "every image is grey", 3: "images are in colour"}
    return Choice(channels, True, reasons.get(channels, "as many as the images have"))


def _normalisation(fingerprint: Fingerprint) -> Choice:
    tones = [f"{each.mean:.0f} and {each.sd:.0f}" for each in fingerprint.intensities]
    return Choice(
        "mean and SD of the training images",
        True,
        f"{', '.join(tones)} of 255 at their own size; measured again once they are resized",
    )


def precision_choice(recipe: Recipe, precision: str, device: str) -> Choice:
    """The number format."""
    if recipe.train.precision != "auto":
        return Choice(precision, False, "set")
    if precision == "bf16":
        return Choice(precision, True, "the GPU computes in it")
    if device == "cpu":
        return Choice(precision, True, "bf16 gained nothing on the CPUs measured")
    return Choice(precision, True, "the device does not compute in bf16")


def loss_choice(recipe: Recipe, shares: Mapping[str, float], unit: str) -> Choice:
    """The loss, and how small a share of the ``unit`` (pixels, voxels) the rarest class has."""
    weights = recipe.loss
    value = f"{weights.cross_entropy:g} cross-entropy + {weights.dice:g} Dice"
    rarest = min(shares, key=lambda name: shares[name])
    among = ", the rarest class," if len(shares) > 1 else ""
    covers = f"'{rarest}'{among} has {100 * shares[rarest]:.2g} % of the {unit}"
    if weights != LossSettings():
        return Choice(value, False, f"set; {covers}")
    return Choice(value, True, f"the default; {covers}, and Dice weighs every class alike")


def _gigabytes(size: int | None) -> float | None:
    return None if size is None else round(size / 1e9, 3)
