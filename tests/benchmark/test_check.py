from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmark.grids import cell, classes, tiny
from commands import parts_of
from medseg import benchmark
from medseg.benchmark.check import check_spec
from medseg.benchmark.grid import cells_of
from medseg.benchmark.runner import Grid
from medseg.benchmark.spec import parse_spec
from medseg.data.splitfile import read_split
from medseg.errors import MedsegError


def test_images_that_unseen_data_share_with_training_are_reported(grid: Grid) -> None:
    (overlap,) = grid.summary["overlaps"]
    assert (overlap["data"], overlap["unseen"]) == ("photos", "others")
    assert sorted(map(tuple, overlap["pairs"])) == [(f"{i:03}", f"{i:03}") for i in range(6)]
    parts = parts_of(cell(grid, "good", 0) / "run")
    assert overlap["learnt"] == len({f"{i:03}" for i in range(6)} - parts["test"])


def test_unseen_data_of_other_classes_than_all_are_refused_before_training(
    photos: Path, tmp_path: Path
) -> None:
    values = tiny(tmp_path, data=str(photos), unseen=str(classes(tmp_path / "three", 2)))
    with pytest.raises(MedsegError, match=r"unseen: three: nothing can be scored.*kind-1, kind-2"):
        benchmark.run(values, tmp_path / "out", device="cpu", quiet=True, report=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("named", [True, False])
def test_the_one_class_of_masks_without_names_is_none_of_several(
    named: bool, tmp_path: Path
) -> None:
    two, one = classes(tmp_path / "two", 2), classes(tmp_path / "one", 1)
    if named:
        shutil.copy(two / "labels.json", one / "labels.json")
    else:
        (one / "labels.json").unlink()
    spec = parse_spec(tiny(tmp_path, data=[str(two), str(one)], unseen=[str(one)]))
    _, checked, _ = check_spec(spec, Console(quiet=True))
    assert list(checked["one"].misfits) == ([] if named else ["two"])


def test_with_folds_each_seed_validates_on_other_cases_and_tests_on_the_same(
    photos: Path, tmp_path: Path
) -> None:
    spec = parse_spec(tiny(tmp_path, data=str(photos), folds=True, seeds=3))
    spec, checked, _ = check_spec(spec, Console(quiet=True))
    (tmp_path / "split.csv").write_text(checked["photos"].split)
    split = read_split(tmp_path / "split.csv")
    assert len(split.folds) == checked["photos"].folds == 5
    validating = [{c for c, part in fold.items() if part == "val"} for fold in split.folds]
    assert set.union(*validating) == {c for c, part in split.parts.items() if part == "train"}
    assert sum(map(len, validating)) == len(set.union(*validating))
    assert "test" in split.parts.values()
    assert [each.fold for each in cells_of(spec, tmp_path)] == [0, 1, 2]


def test_the_split_does_not_depend_on_the_training_seeds(photos: Path, tmp_path: Path) -> None:
    def split(**values: Any) -> str:
        spec = parse_spec(tiny(tmp_path, data=str(photos), **values))
        return check_spec(spec, Console(quiet=True))[1]["photos"].split

    assert split(seeds=[7]) == split(seeds=[1, 2]) != split(seeds=[7], split_seed=1)
