"""Whether a training is on images or on volumes."""

from __future__ import annotations

import inspect

from medseg import systems
from medseg.errors import RecipeError
from medseg.models import network_class
from medseg.recipe import DataSettings, Recipe

_OF_IMAGES = ("image_size",)
_OF_VOLUMES = ("spacing", "patch", "patches_per_volume", "foreground_patches", "intensity")


def with_dims(recipe: Recipe) -> Recipe:
    """The recipe with ``data.dims`` decided, and the option ``dims`` of a network that has one.

    Raises:
        RecipeError: the network does not take such images, or a key has no meaning for them.
    """
    system, option = recipe.system, recipe.network.get("dims")
    has_option = "dims" in inspect.signature(network_class(system)).parameters
    takes = _dims_of(system, has_option=has_option)
    default = 3 if takes == (3,) or (has_option and option == 3) else 2
    dims = default if recipe.data.dims == "auto" else recipe.data.dims
    if dims not in takes:
        raise RecipeError(
            f"data.dims={dims}",
            f"{system} takes {'volumes' if takes == (3,) else 'images'} ({takes[0]} axes) only",
            f"Take another system (`medseg systems list --dims {dims}`)",
        )
    if has_option and option not in (None, dims):
        raise RecipeError(f"data.dims={dims}", f"network.dims is {option}", "Leave one of them out")
    _check_meaning(recipe, dims)
    update: dict[str, object] = {"data": recipe.data.model_copy(update={"dims": dims})}
    if has_option:
        update["network"] = {**recipe.network, "dims": dims}
    return recipe.model_copy(update=update)


def _dims_of(system: str, *, has_option: bool) -> tuple[int, ...]:
    """What a system takes; of a network in a file, which has no card, the user knows it."""
    if system.endswith(".py"):
        return (2, 3)
    dims = systems.load_card(system).dims
    return (2, 3) if has_option and len(dims) > 1 else dims


def _check_meaning(recipe: Recipe, dims: int) -> None:
    """Refuse what would be ignored."""
    of_others, section = (_OF_IMAGES, "augment") if dims == 3 else (_OF_VOLUMES, "augment3d")
    found = [
        f"data.{name}"
        for name in of_others
        if getattr(recipe.data, name) != DataSettings.model_fields[name].default
    ]
    if getattr(recipe, section) != Recipe.model_fields[section].default:
        found.append(section)
    if found:
        volumes, images = "volumes as a whole (data.dims=3)", "images (data.dims=2)"
        here, there = (volumes, images) if dims == 3 else (images, volumes)
        raise RecipeError(
            ", ".join(found), f"is for {there}, and {recipe.system} is trained on {here}",
            "Leave it out",
        )  # fmt: skip
