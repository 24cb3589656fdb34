"""Public datasets, one module each. Nothing is downloaded: an entry says where a set is to be had
and what a copy of it must look like.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from medseg.data.catalogue.entry import Entry
from medseg.errors import DataError, nearest

_NO_ENTRIES = frozenset({"entry", "compare"})


@cache
def names() -> tuple[str, ...]:
    """Names of all entries, sorted; found by listing files, importing nothing."""
    modules = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(
        sorted(
            name.replace("_", "-")
            for name in modules
            if name not in _NO_ENTRIES and not name.startswith("_")
        )
    )


def load_entry(name: str) -> Entry:
    """The entry called ``name``.

    Raises:
        DataError: no such entry.
    """
    if name not in names():
        raise DataError("catalogue", f"there is no dataset '{name}'", nearest(name, names()))
    module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    entry: Entry = module.ENTRY
    return entry
