"""HDF5 files as in :mod:`medseg.data.layouts.h5`, learnt from scribbles.

Training cases take ``scribble`` as their mask, validation and test cases the full ``label``. As the
files hold both, this layout is never guessed: it is chosen with ``--layout h5-scribble``.
``labels.json`` in the root must name the value of pixels without a scribble as ``ignore`` (4 in
ACDC's).
"""

from __future__ import annotations

from pathlib import Path

from medseg.data.case import Dataset
from medseg.data.labels import LABELS_FILE
from medseg.data.layouts import h5
from medseg.errors import DataError

NAME = "h5-scribble"
DECLARED = False


def recognise(root: Path) -> str | None:
    """None: the same files are read as :mod:`medseg.data.layouts.h5`."""
    return None


def read(root: Path) -> Dataset:
    """List the cases as :func:`medseg.data.layouts.h5.read` does, with scribbles to learn from.

    Raises:
        DataError: as there, and when no ``labels.json`` names the value of unknown pixels.
    """
    dataset = h5.read_with(
        root, {None: "scribble", "train": "scribble", "val": "label", "test": "label"}, NAME
    )
    if dataset.labels is None or dataset.labels.ignore is None:
        raise DataError(
            root / LABELS_FILE,
            "does not say which value marks pixels without a scribble",
            'Write e.g. {"background": 0, "right ventricle": 1, "myocardium": 2, '
            '"left ventricle": 3, "ignore": 4}',
        )
    return dataset
