import math
import os
import shutil
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from benchmark.synthetic import benchmark_folder
from medseg.benchmark.examples import _look, _pictures, choose, examples
from medseg.benchmark.reading import Results, Task
from medseg.metrics.tables import read_table

TASK = Task("squares", "squares")


@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1) | st.just(math.nan), max_size=9))
def test_best_median_and_worst_are_different_cases_in_order(scores: dict[str, float]) -> None:
    chosen = choose(scores)
    defined = sorted(score for score in scores.values() if not math.isnan(score))
    assert len(set(chosen.values())) == len(chosen) == min(3, len(defined))
    if defined:
        assert scores[chosen["best"]] == defined[-1]
    if len(defined) > 1:
        assert scores[chosen["worst"]] == defined[0]
    if len(defined) > 2:
        assert scores[chosen["median"]] == defined[len(defined) // 2]


def folder(tmp_path: Path, photos: Path) -> Path:
    """A benchmark of ``photos`` in which two systems have drawn the truth."""
    systems = {"unet": 0.8, "med2d-segnet": 0.85}
    out = benchmark_folder(
        tmp_path / "out", systems=systems, data=["squares"], unseen=[], seeds=[0], cases=5
    )
    spec = yaml.safe_load((out / "spec.yaml").read_text())
    spec["data"][0]["path"] = str(photos)
    (out / "spec.yaml").write_text(yaml.safe_dump(spec))
    for system in systems:
        cell = out / "cells" / system / "squares" / "seed-0"
        shutil.copytree(photos / "masks", cell / "masks")
        table = (cell / "test.csv").read_text()
        (cell / "test.csv").write_text(table.replace("\nc00", "\n00"))
    return out


def test_images_that_may_not_be_shown_are_not(tmp_path: Path, photos: Path) -> None:
    out = folder(tmp_path, photos)
    spec = yaml.safe_load((out / "spec.yaml").read_text())
    spec["data"][0]["show"] = False
    (out / "spec.yaml").write_text(yaml.safe_dump(spec))
    drawing = examples(Results.read(out), TASK)
    assert "Images of squares are not shown" in drawing.skipped
    assert not drawing.inline


def test_paths_start_at_the_folder_of_results(tmp_path: Path, photos: Path) -> None:
    out = folder(tmp_path, photos)
    spec = yaml.safe_load((out / "spec.yaml").read_text())
    spec["data"][0]["path"] = os.path.relpath(photos, out)
    (out / "spec.yaml").write_text(yaml.safe_dump(spec))
    assert examples(Results.read(out), TASK).skipped == ""


def test_cases_are_shown_as_every_system_saw_them(tmp_path: Path, photos: Path) -> None:
    drawing = examples(Results.read(folder(tmp_path, photos)), TASK)
    assert drawing.skipped == ""
    assert drawing.inline.startswith('<img src="data:image/jpeg;base64,')
    assert "med2d-segnet seed 0, unet seed 0" in drawing.caption
    drawing.save(tmp_path / "cases.png")
    assert (tmp_path / "cases.png").stat().st_size > 10_000


def test_without_masks_it_says_so(tmp_path: Path) -> None:
    out = benchmark_folder(tmp_path / "out", data=["squares"], cases=4)
    assert examples(Results.read(out), TASK).skipped == "No masks of squares were kept to be shown."


def test_data_that_are_gone_are_named(tmp_path: Path, photos: Path) -> None:
    out = folder(tmp_path, photos)
    spec = yaml.safe_load((out / "spec.yaml").read_text())
    spec["data"][0]["path"] = str(tmp_path / "gone")
    (out / "spec.yaml").write_text(yaml.safe_dump(spec))
    assert "gone" in examples(Results.read(out), TASK).skipped


def test_a_case_without_a_mask_has_no_prediction(tmp_path: Path, photos: Path) -> None:
    out = folder(tmp_path, photos)
    scores = read_table(out / "cells/med2d-segnet/squares/seed-0/test.csv", "dice").values
    chosen = choose(scores)
    (out / "cells/unet/squares/seed-0/masks" / f"{chosen['worst']}.png").unlink()
    results = Results.read(out)
    seen = [
        _look(results, TASK, results.of(system, "squares")[0], list(chosen.values()))
        for system in ("med2d-segnet", "unet")
    ]
    *_, first, second = _pictures(chosen["worst"], seen)
    assert first is not None
    assert second is None
    assert examples(results, TASK).skipped == ""


@pytest.mark.parametrize("damage", [b"", b"no image"])
def test_a_damaged_image_ends_in_words(tmp_path: Path, photos: Path, damage: bytes) -> None:
    copy = shutil.copytree(photos, tmp_path / "copy")
    out = folder(tmp_path, copy)
    for mask in (copy / "masks").iterdir():
        mask.write_bytes(damage)
    assert "cannot be shown" in examples(Results.read(out), TASK).skipped
