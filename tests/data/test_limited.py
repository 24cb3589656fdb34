from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.builders import dataset, noise, save
from medseg.data.case import Case, Split
from medseg.data.integrity import check_dataset
from medseg.data.layouts import open_dataset
from medseg.data.limited import images_without_masks, keep_labels
from medseg.data.source import File
from medseg.data.survey import Survey
from medseg.errors import DataError


def cases_of(patients: list[str | None]) -> list[Case]:
    return [
        Case(f"{index}", File(Path(f"{index}.png")), patient=patient)
        for index, patient in enumerate(patients)
    ]


@given(
    patients=st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=8, max_size=20),
    seed=st.integers(0, 99),
    order=st.randoms(),
)
@settings(max_examples=30, deadline=None)
def test_whole_patients_keep_their_masks_in_whatever_order_they_come(
    patients: list[str], seed: int, order: object
) -> None:
    cases = cases_of([*patients])
    count = min(2, len(set(patients)))
    kept = keep_labels(cases, count, seed)
    chosen = {case.patient for case in cases if case.id in kept}
    assert len(chosen) == count
    assert kept == {case.id for case in cases if case.patient in chosen}
    order.shuffle(cases)  # type: ignore[attr-defined]
    assert keep_labels(cases, count, seed) == kept


def test_the_seed_draws_other_patients() -> None:
    cases = cases_of([f"p{index}" for index in range(20)])
    assert len({keep_labels(cases, 3, seed) for seed in range(5)}) > 3


def test_a_case_without_a_patient_stands_for_itself() -> None:
    assert len(keep_labels(cases_of([None] * 6), 4, 0)) == 4


def test_more_patients_than_there_are_is_an_error() -> None:
    with pytest.raises(DataError, match=r"data.labelled=3: only 2 patients .* at most 2"):
        keep_labels(cases_of(["a", "a", "b"]), 3, 0)


def survey_of(root: Path) -> Survey:
    return check_dataset(open_dataset(root, group_pattern=r"^(\d\d)"))


PARTS: dict[str, Split] = {"000": "train", "010": "train", "020": "val", "030": "test"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A case of each of four patients, of which the first two train."""
    dataset(tmp_path / "d")
    for old, new in (("001", "010"), ("002", "020"), ("003", "030")):
        for kind in ("images", "masks"):
            (tmp_path / "d" / kind / f"{old}.png").rename(tmp_path / "d" / kind / f"{new}.png")
    return tmp_path / "d"


def test_hidden_cases_and_images_that_have_no_mask_come_without(root: Path) -> None:
    save(root / "images" / "900.png", noise(9))
    found = images_without_masks(survey_of(root), PARTS, {"010"})
    assert [case.id for case in found] == ["010", "900"]
    assert all(case.mask is None for case in found)


def test_images_of_patients_that_are_held_out_are_left_out(root: Path) -> None:
    save(root / "images" / "021.png", noise(21))
    save(root / "images" / "031.png", noise(31))
    assert images_without_masks(survey_of(root), PARTS, set()) == ()


def test_copies_of_held_out_images_are_left_out(root: Path) -> None:
    (root / "images" / "900.png").write_bytes((root / "images" / "030.png").read_bytes())
    assert images_without_masks(survey_of(root), PARTS, set()) == ()
