"""Finding and building ways of training by name."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from torch import nn

from medseg.errors import RecipeError, nearest
from medseg.methods import METHODS
from medseg.methods.method import Method
from medseg.models import class_in_file, constructor_options
from medseg.recipe import Recipe

# What every method gets from the engine.
_GIVEN = ("self", "network", "recipe")


def method_class(name: str) -> type[Method]:
    """The method ``name``, or the one :class:`Method` that a Python file ``name.py`` defines.

    Raises:
        RecipeError: no such method, or the file does not define exactly one, or cannot be
            imported.
    """
    if name.endswith(".py"):
        return class_in_file(
            name,
            f"method {name}",
            lambda each: issubclass(each, Method),
            "method classes",
            "Define one subclass of medseg.methods.method.Method",
        )
    if name not in METHODS:
        raise RecipeError(f"method {name}", "there is no such method", nearest(name, METHODS))
    module, _, found = METHODS[name].partition(":")
    build: type[Method] = getattr(importlib.import_module(module), found)
    return build


def batch_unit(method: type[Method]) -> int:
    """What a process's share of a batch must be a multiple of."""
    return max(method.batch_multiple, 2 if method.unlabelled else 1)


def method_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """All options of method ``name``: its defaults, then ``options``.

    Raises:
        RecipeError: an option that the method does not take, or a value of another type than
            its constructor declares.
    """
    return constructor_options(method_class(name), options, name, "method_options", given=_GIVEN)


def check_match(network: nn.Module, recipe: Recipe) -> None:
    """Whether the recipe's method trains networks of the kind of ``network``.

    Raises:
        RecipeError: it does not.
    """
    prompts: tuple[str, ...] = getattr(network, "prompts", ())
    if bool(prompts) == method_class(recipe.method).prompted:
        return
    if prompts:
        raise RecipeError(
            f"method {recipe.method}", f"{recipe.system} is pointed at what it segments",
            f"Use --set method={'text-driven' if prompts == ('text',) else 'interactive'}",
        )  # fmt: skip
    raise RecipeError(
        f"method {recipe.method}", f"{recipe.system} takes no prompts",
        "Use a system that does (`medseg systems list`), or another method",
    )  # fmt: skip


def create_method(network: nn.Module, recipe: Recipe) -> Method:
    """The recipe's method, to train ``network``.

    Raises:
        RecipeError: unknown method, option or option value, or a method that cannot train this
            network.
    """
    check_match(network, recipe)
    options = method_options(recipe.method, recipe.method_options)
    try:
        return method_class(recipe.method)(network, recipe, **options)
    except (KeyError, TypeError, ValueError) as error:
        raise RecipeError(
            f"method {recipe.method}", str(error), f"See method_options of {recipe.method}"
        ) from error
