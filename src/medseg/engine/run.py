"""The run folder: its recipe, and whether a training may use it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg.engine.adapt import check_adaptation
from medseg.engine.dims import with_dims
from medseg.engine.initial import with_origin
from medseg.engine.openings import OPENINGS
from medseg.errors import MedsegError, RecipeError
from medseg.inference.bundle import SUFFIX
from medseg.methods.registry import check_match, method_options
from medseg.models import create_model, network_options
from medseg.recipe import Recipe, apply_settings, load_recipe, parse_recipe, put
from medseg.systems import load_card

DEFAULT_SYSTEM = "med2d-segnet"


@dataclass(frozen=True)
class Run:
    """The folder that training leaves.

    Attributes:
        folder: holds ``recipe.yaml``, ``split.csv``, ``data.json``, ``metrics.jsonl``,
            ``checkpoints/`` and ``model.medseg``.
        recipe: fully resolved.
        val_dice: best validation Dice, at the network's image size.
        epochs: that were trained.
    """

    folder: Path
    recipe: Recipe
    val_dice: float
    epochs: int

    @property
    def bundle(self) -> Path:
        """The portable model."""
        return self.folder / f"model{SUFFIX}"


def make_recipe(values: Mapping[str, Any], settings: Sequence[str]) -> Recipe:
    """The recipe of a system: its card's values, then ``values``, then ``a.b=c`` settings.

    Args:
        values: by dotted key; ``system`` names the system, default ``med2d-segnet``.
        settings: as text, e.g. ``"train.epochs=50"``.

    Raises:
        RecipeError: an unknown key, option or value; found before any data is read.
    """
    values = with_origin(values, settings)
    system = values.get("system", DEFAULT_SYSTEM)
    card = {} if system.endswith(".py") else load_card(system).recipe
    merged: dict[str, Any] = {"system": system}
    for key, value in {**card, **values}.items():
        put(merged, key, value)
    recipe = with_dims(parse_recipe(apply_settings(merged, settings)))
    resolved = {
        "network": network_options(recipe.system, recipe.network),
        "method_options": method_options(recipe.method, recipe.method_options),
    }
    check_match(create_model(recipe.system, **recipe.network), recipe)
    check_adaptation(recipe)
    return recipe.model_copy(update=resolved)


def free_folder(data: Path, system: str | None) -> Path:
    """``runs/DATA-SYSTEM``, numbered when it is taken."""
    name = f"{data.resolve().stem}-{Path(system or DEFAULT_SYSTEM).stem}"
    folder = Path("runs") / name
    number = 2
    while folder.exists():
        folder = Path("runs") / f"{name}-{number}"
        number += 1
    return folder


def recipe_of_run(
    folder: Path, values: Mapping[str, Any], settings: Sequence[str], *, resume: bool
) -> Recipe:
    """A new recipe, or that of the run in ``folder``, which ``values`` must not contradict.

    Raises:
        MedsegError: the folder is in use, or holds nothing to resume.
        RecipeError: an invalid value, or one that the resumed run does not have.
    """
    stored = folder / "recipe.yaml"
    if not resume:
        _check_output(folder)
        return make_recipe(values, settings)
    if not stored.is_file():
        raise MedsegError(
            f"--resume {folder}", "there is no run to continue in it", "Leave --resume out"
        )
    recipe = load_recipe(stored)
    texts = [f"{key}={json.dumps(value)}" for key, value in values.items()]
    asked = parse_recipe(apply_settings(recipe.model_dump(mode="json"), [*texts, *settings]))
    if asked != recipe:
        before, after = (_flat(each.model_dump(mode="json")) for each in (recipe, asked))
        changed = sorted(key for key in before.keys() | after.keys()
                         if before.get(key) != after.get(key))  # fmt: skip
        raise RecipeError(
            f"--resume {folder}",
            f"the run was begun with another {', '.join(changed)}",
            "Leave those options out, or start a new run with another -o",
        )
    network_options(recipe.system, recipe.network)
    method_options(recipe.method, recipe.method_options)
    return recipe


def _check_output(folder: Path) -> None:
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise MedsegError(
            f"-o {folder}", f"{existing} is not a folder that can be written",
            "Choose another folder",
        )  # fmt: skip
    # Left by a training that was killed before its first step; such a run cannot be resumed.
    begun = {"cache", "split.csv", "data.json", "plan.json", OPENINGS}
    if existing == folder and not {entry.name for entry in folder.iterdir()} <= begun:
        raise MedsegError(
            f"-o {folder}", "it exists and is not empty",
            "Choose another folder, or add --resume to continue the run in it",
        )  # fmt: skip


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{key}": inner for key, inner in _flat(value).items()}
        else:
            flat[name] = value
    return flat
