from __future__ import annotations

from pathlib import Path

import numpy as np

from medseg.data.integrity import check_dataset
from medseg.data.layouts import open_dataset
from medseg.data.overlap import find_overlaps
from medseg.data.survey import Survey

from .builders import disk, save, scene


def survey(root: Path, *seeds: int) -> Survey:
    for seed in seeds:
        save(root / "images" / f"{seed}.png", np.asarray(scene(seed)))
        save(root / "masks" / f"{seed}.png", disk((96, 96), radius=20))
    return check_dataset(open_dataset(root))


def test_images_in_two_datasets_are_listed_by_the_ids_of_both(tmp_path: Path) -> None:
    first, second = survey(tmp_path / "a", 1, 2, 3), survey(tmp_path / "b", 3, 4)
    (overlap,) = find_overlaps([first, second])
    assert [(pair.first, pair.second, pair.distance) for pair in overlap.pairs] == [("3", "3", 0)]
    assert overlap.problem is not None
    assert overlap.problem.kind == "near-duplicate-between-sets"
    assert "1 image also in" in overlap.problem.found


def test_datasets_without_common_images_have_no_problem(tmp_path: Path) -> None:
    (overlap,) = find_overlaps([survey(tmp_path / "a", 1, 2), survey(tmp_path / "b", 3)])
    assert (overlap.pairs, overlap.problem) == ((), None)


def test_every_two_datasets_are_compared(tmp_path: Path) -> None:
    surveys = [survey(tmp_path / str(index), index) for index in range(1, 5)]
    assert len(find_overlaps(surveys)) == 6
    assert find_overlaps(surveys[:1]) == ()
