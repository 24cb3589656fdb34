"""Published systems: one card each, and the door to the networks they name."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from medseg.errors import RecipeError, nearest
from medseg.systems.card import Card


@cache
def names() -> tuple[str, ...]:
    """Slugs of all systems, sorted; found by listing files, importing nothing."""
    modules = (m.name for m in pkgutil.iter_modules(__path__))
    return tuple(sorted(name.replace("_", "-") for name in modules if name != "card"))


def load_card(name: str) -> Card:
    """The card of the system called ``name``; imports neither torch nor its network.

    Raises:
        RecipeError: no such system.
    """
    if name not in names():
        raise RecipeError("system", f"there is no system {name!r}", nearest(name, names()))
    module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    card: Card = module.CARD
    return card
