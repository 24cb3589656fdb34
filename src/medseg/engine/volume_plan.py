"""What ``auto`` means for volumes: every number chosen from the data, the network and the
machine."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import cache

import numpy as np
import torch

from medseg.data.augment3d import AXES, Axis
from medseg.data.volumes.fingerprint import VolumeFingerprint, intensity_rules, target_spacing
from medseg.data.volumes.preprocess import network_shape
from medseg.data.volumes.resample import Shape, Triple
from medseg.engine.memory import MARGIN, Forecast, forecast_memory, free_memory
from medseg.engine.plan import (
    Build,
    Choice,
    Plan,
    loss_choice,
    patience_choice,
    precision_choice,
)
from medseg.errors import MedsegError
from medseg.methods.registry import batch_unit, method_class
from medseg.recipe import Recipe

PRESENTATIONS = {"cpu": 4_000, "cuda": 60_000, "mps": 20_000}
"""Patches a training shows by default: a few hours on a CPU, and on a GPU."""

VOXELS = {"cpu": 48**3, "cuda": 128**3, "mps": 96**3}
"""Most voxels of a patch that is chosen."""

BATCH = 2
MOST_PATCHES = 8

_STEP = 8
_LEAST = 16

# From left to right, by the plane of the slices.
_LEFT_TO_RIGHT: dict[str, Axis] = {
    "axial": "columns", "coronal": "columns", "sagittal": "slices", "": "columns",
}  # fmt: skip


def plan_patch(
    shape: Triple, spacing: Triple | None, voxels: int, fits: Callable[[Shape], bool]
) -> tuple[Shape, str]:
    """Slices, rows and columns of a patch, multiples of 8 from 16 on, and why.

    The median volume, made smaller along the axis where the patch is longest in mm until it has no
    more than ``voxels`` and a step of one patch fits into memory.

    Args:
        shape: of the median volume, as the network sees it.
        spacing: of the network in mm; None where it is unknown.
        voxels: at most.
        fits: whether a step of one such patch fits into memory.
    """
    mm = spacing or (1.0, 1.0, 1.0)
    sides = [max(_LEAST, -(-round(length) // _STEP) * _STEP) for length in shape]
    reason = "the median volume"

    def shorten() -> None:
        longest = max(range(3), key=lambda axis: (sides[axis] > _LEAST, sides[axis] * mm[axis]))
        sides[longest] -= _STEP

    while int(np.prod(sides)) > voxels and max(sides) > _LEAST:
        shorten()
        reason = f"the median volume, cut to {voxels:,} voxels"
    while not fits((sides[0], sides[1], sides[2])) and max(sides) > _LEAST:
        shorten()
        reason = "the median volume, cut to fit into memory"
    return (sides[0], sides[1], sides[2]), reason


def make_volume_plan(
    recipe: Recipe,
    fingerprint: VolumeFingerprint,
    *,
    layout: str,
    device: torch.device,
    precision: str,
    processes: int,
    build: Build,
) -> Plan:
    """Choose everything that the recipe leaves to ``auto``; see
    :func:`medseg.engine.plan.make_plan`.

    Raises:
        MedsegError: not even one patch a process fits into memory.
    """
    data, train = recipe.data, recipe.train
    free = free_memory(device)

    @cache
    def forecast(patch: Shape, batch: int) -> Forecast | None:
        try:
            return forecast_memory(
                build(recipe),
                image_size=patch,
                channels=fingerprint.channels,
                batch_size=max(1, batch // processes),
                precision=precision,
                device=device.type,
            )
        except MedsegError:
            raise
        except Exception:
            # As in make_plan: a network may do with volumes what cannot be done without any.
            return None

    def fits(patch: Shape, batch: int) -> bool:
        needed = forecast(patch, batch)
        return needed is None or free is None or needed.total * MARGIN <= free

    spacing = _spacing(recipe, fingerprint)
    shape = _median_shape(fingerprint, spacing.value)
    patch = Choice(data.patch, False, "set")
    if data.patch == "auto":
        budget = VOXELS.get(device.type, VOXELS["cuda"])
        chosen, reason = plan_patch(
            shape, spacing.value, budget, lambda each: fits(each, processes)
        )
        patch = Choice(chosen, True, reason)
    each = _patches_per_volume(recipe, shape, patch.value)
    patches = fingerprint.training * each.value
    batch = Choice(train.batch_size, False, "set")
    if train.batch_size == "auto":
        unit = processes * batch_unit(method_class(recipe.method))
        batch = _batch(patches, unit, lambda size: fits(patch.value, size))
    needed = forecast(patch.value, batch.value)
    if batch.auto and needed is not None and free is not None and needed.total > free:
        raise _too_large(needed, free, patch.value)
    epochs = _epochs(recipe, patches, device.type)
    patience = patience_choice(recipe, epochs.value)
    rules, why = intensity_rules(fingerprint, data.intensity)
    flip = _flip(recipe, fingerprint)
    choices = {
        "data.dims": Choice(3, False, f"{recipe.system} takes volumes"),
        "data.spacing": spacing,
        "data.patch": patch,
        "data.patches_per_volume": each,
        "data.channels": Choice(
            fingerprint.channels, data.channels == "auto", "as many as the volumes have"
        ),
        "data.intensity": Choice(
            ", ".join(rule.kind for rule in rules), data.intensity == "auto", why
        ),
        "augment3d.flip": flip,
        "train.batch_size": batch,
        "train.epochs": epochs,
        "train.patience": patience,
        "train.precision": precision_choice(recipe, precision, device.type),
        "loss": loss_choice(
            recipe, {each.name: each.voxel_share for each in fingerprint.classes}, "voxels"
        ),
    }
    resolved = {
        "layout": layout,
        "channels": fingerprint.channels,
        "spacing": spacing.value or "auto",
        "patch": patch.value,
        "patches_per_volume": each.value,
    }
    planned = {
        "epochs": epochs.value,
        "batch_size": batch.value,
        "patience": patience.value,
        "precision": precision,
    }
    recipe = recipe.model_copy(
        update={
            "data": data.model_copy(update=resolved),
            "augment3d": recipe.augment3d.model_copy(update={"flip": flip.value}),
            "train": train.model_copy(update=planned),
        }
    )
    return Plan(recipe, choices, fingerprint, device.type, processes, needed, free)


def _spacing(recipe: Recipe, fingerprint: VolumeFingerprint) -> Choice:
    if recipe.data.spacing == "auto":
        target, reason = target_spacing(fingerprint)
        return Choice(target, True, reason)
    silent = "; no volume says its own, so none is resampled"
    return Choice(recipe.data.spacing, False, f"set{silent if not fingerprint.spacings else ''}")


def _median_shape(fingerprint: VolumeFingerprint, target: Triple | None) -> Triple:
    """Of the volumes as the network sees them."""
    spacings = fingerprint.spacings or (None,) * len(fingerprint.shapes)
    shapes = [
        network_shape(shape, spacing, target)
        for shape, spacing in zip(fingerprint.shapes, spacings, strict=True)
    ]
    across, rows, columns = (float(side) for side in np.median(np.array(shapes), axis=0))
    return across, rows, columns


def _patches_per_volume(recipe: Recipe, shape: Triple, patch: Shape) -> Choice:
    if recipe.data.patches_per_volume != "auto":
        return Choice(recipe.data.patches_per_volume, False, "set")
    cover = float(np.prod([max(1.0, side / own) for side, own in zip(shape, patch, strict=True)]))
    chosen = max(1, min(MOST_PATCHES, math.ceil(cover)))
    return Choice(chosen, True, f"{cover:.1f} patches cover the median volume; 1 to {MOST_PATCHES}")


def _batch(patches: int, unit: int, fits: Callable[[int], bool]) -> Choice:
    """Two patches, or as many as the method and the processes need."""
    chosen = -(-BATCH // unit) * unit
    if chosen > unit and patches < chosen:
        return Choice(unit, True, f"there are only {patches} patches an epoch")
    if chosen > unit and not fits(chosen):
        return Choice(unit, True, f"{chosen} would not fit into memory")
    reason = "a few large patches teach more than many small ones"
    if unit > 1:
        reason += f"; a multiple of {unit} for the method and the processes"
    return Choice(chosen, True, reason)


def _too_large(needed: Forecast, free: int, patch: Shape) -> MedsegError:
    return MedsegError(
        "memory",
        f"a step of one patch of {' x '.join(map(str, patch))} voxels takes "
        f"{needed.total / 1e9:.1f} GB (forecast), and {free / 1e9:.1f} GB are free",
        "Set a smaller data.patch, take a smaller network (`medseg systems list --dims 3`), or end "
        "other programs; --batch-size 1 tries it all the same",
    )


def _epochs(recipe: Recipe, patches: int, device: str) -> Choice:
    if recipe.train.epochs != "auto":
        return Choice(recipe.train.epochs, False, "set")
    shown = PRESENTATIONS.get(device, PRESENTATIONS["cuda"])
    chosen = max(10, min(1000, round(shown / patches)))
    reason = f"{shown:,} presentations, {patches:,} an epoch, within 10 to 1000 epochs"
    return Choice(chosen, True, reason)


def _flip(recipe: Recipe, fingerprint: VolumeFingerprint) -> Choice:
    asked = recipe.augment3d.flip
    if asked != "auto":
        return Choice(asked, False, "set")
    sided = [
        each.name
        for each in fingerprint.classes
        if {"left", "right"} & set(re.split(r"[^a-z]+", each.name.lower()))
    ]
    if not sided:
        return Choice(AXES, True, "no class is named left or right")
    axis = _LEFT_TO_RIGHT[fingerprint.plane]
    kept = tuple(each for each in AXES if each != axis)
    return Choice(kept, True, f"not from left to right, which tell {sided[0]!r} from its mirror")
