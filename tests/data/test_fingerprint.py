from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from data.builders import dataset, disk, noise, save
from medseg.data import fingerprint as module
from medseg.data.fingerprint import Fingerprint, component_areas, take_fingerprint
from medseg.data.integrity import check_dataset
from medseg.data.layouts import open_dataset


def measured(root: Path, *, test: tuple[str, ...] = ()) -> Fingerprint:
    survey = check_dataset(open_dataset(root))
    assert not survey.errors
    training = [case for case in survey.usable if case.id not in test]
    return take_fingerprint(survey, training, channels=survey.channels)


def flat(root: Path, values: dict[str, int], size: tuple[int, int] = (40, 60)) -> Path:
    """Grey images of one value each, with a disk of 20 px in each mask."""
    for name, value in values.items():
        save(root / "images" / f"{name}.png", np.full(size, value, np.uint8))
        save(root / "masks" / f"{name}.png", disk(size, radius=10))
    return root


def test_counts_are_of_the_dataset_and_sizes_of_the_training_part(tmp_path: Path) -> None:
    data = dataset(tmp_path, 6)
    save(data / "images" / "005.png", noise(5, (300, 200)))
    save(data / "masks" / "005.png", disk((300, 200)))
    found = measured(data, test=("004", "005"))
    assert (found.cases, found.labelled, found.training, found.looked_at) == (6, 6, 4, 4)
    assert (found.height.largest, found.width.largest, found.longest) == (16, 20, 20)
    assert found.aspect.median == pytest.approx(20 / 16)
    assert (found.patients, found.published, found.channels) == (None, {}, 3)


def test_patients_and_the_published_split_are_counted(tmp_path: Path) -> None:
    flat(tmp_path, {"a": 1, "b": 2, "c": 3})
    rows = ["image,mask,patient,split"]
    for name, patient, part in (("a", "x", "train"), ("b", "x", "train"), ("c", "y", "test")):
        rows.append(f"images/{name}.png,masks/{name}.png,{patient},{part}")
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    found = measured(tmp_path)
    assert found.patients == 2
    assert found.published == {"train": 2, "test": 1}


def test_intensities_of_flat_images_have_their_closed_form(tmp_path: Path) -> None:
    (channel,) = measured(flat(tmp_path, {"a": 10, "b": 10, "c": 10, "d": 110})).intensities
    assert channel.mean == pytest.approx(35)
    assert channel.sd == pytest.approx(math.sqrt(3) * 25)
    assert channel.percentiles == (10, 10, 10, 10, 110)


def test_the_test_part_changes_nothing_that_is_measured(tmp_path: Path) -> None:
    first = measured(flat(tmp_path / "a", {"a": 10, "b": 20, "c": 30}), test=("c",))
    other = flat(tmp_path / "b", {"a": 10, "b": 20, "c": 250})
    save(other / "masks" / "c.png", disk((40, 60), radius=3))
    assert measured(other, test=("c",)) == first


def test_objects_are_components_and_specks_are_counted_apart(tmp_path: Path) -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[2:12, 2:12] = 255
    mask[20:40, 20:40] = 255
    mask[60, 60] = 255
    for name in ("a", "b"):
        save(tmp_path / "images" / f"{name}.png", noise(ord(name), (64, 64)))
        save(tmp_path / "masks" / f"{name}.png", mask)
    (facts,) = measured(tmp_path).classes
    assert (facts.objects.count, facts.objects.specks) == (4, 2)
    small, median, large = facts.objects.diameter
    assert small == pytest.approx(math.sqrt(4 / math.pi * 100), rel=0.01)
    assert large == pytest.approx(math.sqrt(4 / math.pi * 400), rel=0.01)
    assert facts.objects.share == pytest.approx(tuple(x / 64 for x in (small, median, large)))
    assert facts.pixel_share == pytest.approx(501 / 64**2)
    assert facts.case_share == 1


def test_a_class_without_an_object_is_no_error(tmp_path: Path) -> None:
    flat(tmp_path, {"a": 1, "b": 2})
    (tmp_path / "labels.json").write_text('{"background": 0, "disk": 255, "ghost": 7}')
    disks, ghost = measured(tmp_path).classes
    assert disks.objects.count == 2
    assert (ghost.name, ghost.objects.count, ghost.case_share) == ("ghost", 0, 0)
    assert set(ghost.kept.values()) == {1.0}


def test_masks_keep_everything_at_their_own_size_and_thin_lines_lose_most(tmp_path: Path) -> None:
    lines = np.zeros((512, 512), np.uint8)
    lines[1::8] = 255
    disks = disk((512, 512), radius=150)
    kept = []
    for name, mask in (("lines", lines), ("disks", disks)):
        for number in (1, 2):
            save(tmp_path / name / "images" / f"{number}.png", noise(number, (512, 512)))
            save(tmp_path / name / "masks" / f"{number}.png", mask)
        (facts,) = measured(tmp_path / name).classes
        kept.append(facts.kept)
    assert kept[0][512] == kept[1][512] == 1
    assert kept[0][128] < 0.5
    assert kept[1][128] > 0.97


def test_only_some_of_many_cases_are_looked_at_and_they_are_spread_evenly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_LOOKED_AT", 3)
    found = measured(flat(tmp_path, {f"{n}": 10 * n for n in range(9)}))
    assert (found.training, found.looked_at) == (9, 3)
    assert found.intensities[0].mean == pytest.approx((0 + 40 + 80) / 3)


def test_the_fingerprint_is_json(tmp_path: Path) -> None:
    found = measured(dataset(tmp_path)).to_json()
    assert json.loads(json.dumps(found))["classes"][0]["name"] == "foreground"


@given(region=arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_components_cover_the_region_and_do_not_touch(region: np.ndarray) -> None:
    areas = component_areas(region)
    assert areas.sum() == region.sum()
    assert (areas > 0).all()
    grown = np.zeros((region.shape[0] + 2, region.shape[1] + 2), bool)
    grown[1:-1, 1:-1] = region
    touching = sum(
        int((grown[1:-1, 1:-1] & grown[1 + dy : 1 + dy + region.shape[0],
                                       1 + dx : 1 + dx + region.shape[1]]).sum())
        for dy, dx in ((0, 1), (1, -1), (1, 0), (1, 1))
    )  # fmt: skip
    assert len(areas) >= int(region.sum()) - touching
    assert (len(areas) == region.sum()) == (touching == 0)


def test_volumes_tell_their_spacing(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    for name in ("a", "b"):
        shape = (12, 14, 4)
        voxels = np.random.default_rng(ord(name)).integers(0, 200, shape).astype(np.int16)
        labels = np.zeros(shape, np.uint8)
        labels[3:9, 3:9] = 1
        for kind, array in (("images", voxels), ("masks", labels)):
            image = nibabel.Nifti1Image(array, np.diag([0.8, 0.9, 5.0, 1]))
            nibabel.save(image, tmp_path / kind / f"{name}.nii.gz")
    found = measured(tmp_path)
    assert found.spacing == pytest.approx((5.0, 0.9, 0.8))
    assert found.patients == 2
