"""Names of files that any system takes, for case ids that may be anything."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

# Windows has no such characters and names in file names; hidden files are not read.
_FORBIDDEN = re.compile(r'[<>:"\\|?*\x00-\x1f\x7f]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_LONGEST = 200


def is_safe(name: str) -> bool:
    """Whether any file system takes ``name``, a path with ``/``, and a layout finds it there."""
    return all(
        part == part.strip()
        and not part.startswith((".", "#"))
        and not part.endswith(".")
        and not _FORBIDDEN.search(part)
        and not _RESERVED.fullmatch(part)
        and 0 < len(part.encode()) <= _LONGEST
        for part in name.split("/")
    )


def plain_names(ids: Iterable[str]) -> dict[str, str]:
    """A name of ASCII letters, digits, ``.``, ``-`` and ``_`` for each id, unique in any case."""
    taken: set[str] = set()
    names = {}
    for case_id in ids:
        ascii_id = unicodedata.normalize("NFKD", case_id).encode("ascii", "ignore").decode()
        base = re.sub(r"[^A-Za-z0-9._-]+", "_", ascii_id).strip("._")[:_LONGEST] or "case"
        if _RESERVED.fullmatch(base):
            base = f"case_{base}"
        name, count = base, 1
        while name.lower() in taken:
            count += 1
            name = f"{base}_{count}"
        taken.add(name.lower())
        names[case_id] = name
    return names


def path_names(ids: Sequence[str]) -> dict[str, str]:
    """The ids themselves where they can be paths side by side, else plain names."""
    if all(map(is_safe, ids)) and len({case_id.lower() for case_id in ids}) == len(ids):
        return {case_id: case_id for case_id in ids}
    return plain_names(ids)
