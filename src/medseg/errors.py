"""Errors that a user can act on."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MedsegError(Exception):
    """Something the user gave cannot be used.

    Args:
        where: the file or option at fault.
        found: what was found there.
        remedy: what to do about it.
    """

    def __init__(self, where: object, found: str, remedy: str) -> None:
        super().__init__(f"{where}: {found}. {remedy}")
        self.where = str(where)
        self.found = found
        self.remedy = remedy

    def __reduce__(self) -> tuple[type[MedsegError], tuple[str, str, str]]:
        return type(self), (self.where, self.found, self.remedy)


class DataError(MedsegError):
    """An image, a mask or a dataset that cannot be read or used."""


class RecipeError(MedsegError):
    """A configuration key or value that is not valid."""


class ModelError(MedsegError):
    """A run, bundle or weights file that cannot be loaded."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint naming the known name closest to ``name``, or listing all when none is close.

    >>> nearest("expantion", ["expansion", "kernel"])
    "Did you mean 'expansion'?"
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"Did you mean '{close[0]}'?"
    return f"Known: {', '.join(names)}."


def plural(count: int, noun: str) -> str:
    """``"1 case"``, ``"2 cases"``."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
