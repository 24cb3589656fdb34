"""What layouts share: comparing file names, and the label file beside the data."""

from __future__ import annotations

import unicodedata
from pathlib import Path

from medseg.data.case import LabelMap, Split
from medseg.data.labels import LABELS_FILE, read_labels_file

SPLIT_NAMES: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


def nfc(name: str) -> str:
    """The composed form of a name: macOS and others store the same letters differently."""
    return unicodedata.normalize("NFC", name)


def labels_beside(folder: Path) -> LabelMap | None:
    """The label map of ``folder``'s ``labels.json``, or None without that file.

    Raises:
        DataError: the file is malformed.
    """
    path = folder / LABELS_FILE
    return read_labels_file(path) if path.exists() else None
