"""What to say of the structures in images: a store of sentences beside the data.

``prompts.json`` holds sentences for the classes, and where wanted others for single cases, which
then take their place::

    {
      "classes": {"polyp": ["a polyp", "one small pink polyp"]},
      "cases": {"image_17": {"polyp": ["two flat polyps at the left"]}}
    }

A class of which nothing is said is called by its name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medseg.errors import DataError, nearest, plural

SENTENCES_FILE = "prompts.json"
_EXAMPLE = '{"classes": {"polyp": ["a polyp", "one small pink polyp"]}}'


@dataclass(frozen=True)
class Sentences:
    """Sentences by class, and by case and class.

    Attributes:
        classes: of each foreground class, in their order, at least one.
        cases: those that take their place, by case id and class.
        source: the file they are from; empty: classes are called by their names.
    """

    classes: Mapping[str, tuple[str, ...]]
    cases: Mapping[str, Mapping[str, tuple[str, ...]]]
    source: str = ""

    def __str__(self) -> str:
        if not self.source:
            return "classes are called by their names: " + ", ".join(self.first)
        text = plural(sum(map(len, self.classes.values())), "sentence")
        if self.cases:
            text += f", others for {plural(len(self.cases), 'case')}"
        return f"{text} of {self.source}"

    @property
    def first(self) -> tuple[str, ...]:
        """The sentence that each class is asked for by when there is nothing to draw from."""
        return tuple(sentences[0] for sentences in self.classes.values())

    @property
    def sha256(self) -> str:
        """Of all of them."""
        text = json.dumps([list(self.classes.items()), self.cases], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def draw(self, case_id: str, name: str, random: np.random.Generator) -> str:
        """Any sentence for class ``name`` in a case, all with the same probability."""
        own = self.cases.get(case_id, {}).get(name, self.classes[name])
        return own[int(random.integers(len(own)))]


def called_by_name(names: Sequence[str]) -> Sentences:
    """Every class by its name.

    Args:
        names: of the foreground classes.
    """
    return Sentences({name: (name.replace("_", " "),) for name in names}, {})


def find_sentences(data: Path) -> Path | None:
    """``prompts.json`` in a dataset's folder or beside its manifest; None where there is none."""
    place = (data if data.is_dir() else data.parent) / SENTENCES_FILE
    return place if place.is_file() else None


def read_sentences(path: Path, names: Sequence[str], cases: Collection[str]) -> Sentences:
    """Read a store.

    Args:
        path: JSON as above.
        names: of the foreground classes.
        cases: ids of all cases.

    Raises:
        DataError: it cannot be read, is no store, or speaks of classes or cases that are not there.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            path, f"it cannot be read as JSON ({error})", f"Write e.g. {_EXAMPLE}"
        ) from error
    if not isinstance(found, dict) or not found or not found.keys() <= {"classes", "cases"}:
        raise DataError(path, "it is no object of classes and cases", f"Write e.g. {_EXAMPLE}")
    of_classes = _by_class(path, "classes", found.get("classes", {}), names)
    of_cases = found.get("cases", {})
    if not isinstance(of_cases, dict):
        raise DataError(path, "its cases are no object", f"Write e.g. {_EXAMPLE}")
    for case in of_cases:
        if case not in cases:
            raise DataError(
                path, f"it speaks of a case {case!r}, which is not there", nearest(case, cases)
            )
    return Sentences(
        {**called_by_name(names).classes, **of_classes},
        {case: _by_class(path, f"case {case}", each, names) for case, each in of_cases.items()},
        str(path),
    )


def _by_class(
    path: Path, where: str, found: Any, names: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    if not isinstance(found, dict):
        raise DataError(path, f"its {where} are no object", f"Write e.g. {_EXAMPLE}")
    for name, sentences in found.items():
        if name not in names:
            raise DataError(path, f"{where}: there is no class {name!r}", nearest(name, names))
        if (
            not isinstance(sentences, list)
            or not sentences
            or not all(isinstance(each, str) and each.strip() for each in sentences)
        ):
            raise DataError(
                path, f"{where}: what is said of {name!r} is no list of sentences",
                f"Write e.g. {_EXAMPLE}",
            )  # fmt: skip
    return {name: tuple(each.strip() for each in given) for name, given in found.items()}
