"""Building networks by name."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_type_hints

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError
from torch import nn

from medseg import systems
from medseg.errors import RecipeError, nearest


def network_class(name: str) -> type[nn.Module]:
    """The network of system ``name``, or the one network class of a Python file ``name.py``.

    Raises:
        RecipeError: no such system, or the file does not define exactly one ``nn.Module``
            that takes ``in_channels`` and ``num_classes``, or cannot be imported.
    """
    if not name.endswith(".py"):
        module_name, _, class_name = systems.load_card(name).network.partition(":")
        found: type[nn.Module] = getattr(importlib.import_module(module_name), class_name)
        return found
    return class_in_file(
        name,
        f"system {name}",
        lambda each: (
            issubclass(each, nn.Module)
            and {"in_channels", "num_classes"} <= inspect.signature(each).parameters.keys()
        ),
        "network classes",
        "Define one nn.Module whose constructor takes in_channels and num_classes",
    )


def class_in_file(
    name: str, where: str, wanted: Callable[[type], bool], what: str, remedy: str
) -> type[Any]:
    """The one class of the Python file ``name`` that is wanted.

    Args:
        name: path of the file.
        where: what errors name.
        wanted: tells the class from others that the file defines.
        what: is wanted, in the plural.
        remedy: when there is not exactly one.

    Raises:
        RecipeError: there is no such file or not exactly one such class, or it cannot be
            imported.
    """
    path = Path(name)
    if not path.is_file():
        raise RecipeError(where, "there is no such file", "Give an existing .py file")
    # A name of its own, so that a file called random.py shadows nothing.
    spec = importlib.util.spec_from_file_location(f"medseg_file_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up while it is being executed.
    sys.modules[module.__name__] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise RecipeError(
            where,
            f"it cannot be imported ({type(error).__name__}: {error})",
            f"Run `python {name}` to see where",
        ) from error
    candidates = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and value.__module__ == module.__name__ and wanted(value)
    ]
    if len(candidates) != 1:
        raise RecipeError(where, f"it defines {len(candidates)} {what}", remedy)
    return candidates[0]


def network_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """All options of network ``name``: its defaults, the card's, then ``options``.

    Raises:
        RecipeError: an option that the network does not take, or a value of another type than
            the constructor declares.
    """
    card_options = {} if name.endswith(".py") else systems.load_card(name).options
    return constructor_options(
        network_class(name),
        options,
        name,
        "network",
        given=("in_channels", "num_classes"),
        preset=card_options,
    )


def constructor_options(
    build: type[Any],
    options: Mapping[str, Any],
    name: str,
    section: str,
    *,
    given: Collection[str],
    preset: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, Any]:
    """All options of a class: its constructor's defaults, then ``preset``, then ``options``.

    Args:
        build: the class.
        options: of the user.
        name: of what is built, for errors.
        section: of the recipe, which errors name.
        given: arguments that are no options.
        preset: other defaults.

    Raises:
        RecipeError: an option that the constructor does not take, or a value of another type
            than it declares.
    """
    known = {
        key: parameter.default
        for key, parameter in inspect.signature(build).parameters.items()
        if key not in given
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }
    for key in options:
        if key not in known:
            if not known:
                raise RecipeError(f"{section}.{key}", f"{name} has no options", "Leave it out")
            raise RecipeError(f"{section}.{key}", f"{name} has no such option", nearest(key, known))
    defaults = {k: value for k, value in known.items() if value is not inspect.Parameter.empty}
    hints = _type_hints(build)
    checked = {
        key: _checked(f"{section}.{key}", value, hints.get(key, Any))
        for key, value in options.items()
    }
    return {**defaults, **preset, **checked}


def _type_hints(build: type[Any]) -> dict[str, Any]:
    try:
        return get_type_hints(build.__init__)
    except (NameError, TypeError):  # names that exist only for the type checker
        return {}


def _checked(where: str, value: Any, hint: Any) -> Any:
    try:
        adapter = TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError:
        return value
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        messages = dict.fromkeys(each["msg"] for each in error.errors())
        raise RecipeError(where, f"{value!r} is not allowed", " or ".join(messages)) from error


def create_model(
    name: str, *, in_channels: int = 3, num_classes: int = 1, **options: Any
) -> nn.Module:
    """Build a network by system name.

    Args:
        name: a system (``medseg systems list``) or the path of a Python file with one network.
        in_channels: image channels.
        num_classes: logit channels: 1 for a binary task, else the classes incl. background.
        **options: of the network, e.g. ``expansion=4``.

    Returns:
        A module that maps ``(B, in_channels, H, W)`` float images of any size to
        ``(B, num_classes, H, W)`` logits.

    Raises:
        RecipeError: unknown system, option or option value.
    """
    build = network_class(name)
    try:
        return build(
            in_channels=in_channels, num_classes=num_classes, **network_options(name, options)
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RecipeError(
            f"network options of {name}", str(error), f"See `medseg systems show {name}`"
        ) from error
