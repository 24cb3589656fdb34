"""Models that come with medseg, each by its name: `medseg predict polyp photo.jpg -o masks`.

What each one is stands in ``entries.py``; the files lie in ``models/``, where
``tools/ship_model.py`` puts them.
"""

from __future__ import annotations

import difflib
from pathlib import Path

SHIPPED: tuple[str, ...] = ("nuclei", "polyp", "fetal-head", "brain-tumor", "hippocampus")
"""The names of the models in this package."""

FOLDER = Path(__file__).parent / "models"


def find(model: Path) -> Path | None:
    """The file of the model that comes with medseg under the name ``model``, or None.

    What lies on the disk comes first: a file of that name, or a run. A folder that is no run
    cannot be meant where a model is asked for.
    """
    if str(model) not in SHIPPED or model.is_file():
        return None
    if any((model / name).exists() for name in ("recipe.yaml", "model.medseg")):
        return None
    return FOLDER / f"{model}.medseg"


def suggestion(model: Path) -> str:
    """A hint for who named no model: the name that is close to it, or all."""
    if not SHIPPED:
        return ""
    close = difflib.get_close_matches(str(model), SHIPPED, n=1, cutoff=0.6)
    if close:
        return f". Did you mean '{close[0]}'?"
    return f", or a model that comes with medseg: {', '.join(SHIPPED)}"
