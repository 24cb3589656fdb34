from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.data.case import Case, Dataset, Split
from medseg.data.source import File
from medseg.data.splits import divide, make_split
from medseg.data.survey import CaseFacts, Survey
from medseg.errors import DataError


def case(
    name: str, patient: str | None = None, split: Split | None = None, labelled: bool = True
) -> Case:
    return Case(
        name, File(Path(f"{name}.png")), File(Path("m.png")) if labelled else None, patient, split
    )


def cases(count: int) -> list[Case]:
    return [case(f"{index:03}") for index in range(count)]


@st.composite
def collections(draw: st.DrawFn) -> tuple[list[Case], dict[str, str]]:
    """Cases with patients and copies, at least two of them labelled."""
    count = draw(st.integers(2, 25))
    patients = st.none() | st.sampled_from("pqrstu")
    made = [
        case(f"{index}", draw(patients), labelled=index < 2 or draw(st.booleans()))
        for index in range(count)
    ]
    copies = draw(st.dictionaries(st.integers(0, count - 1).map(str), st.sampled_from("xyz")))
    return made, copies


@given(given_cases=collections(), data=st.data())
def test_a_split_is_a_partition_divides_no_group_and_ignores_order(
    given_cases: tuple[list[Case], dict[str, str]], data: st.DataObject
) -> None:
    made, copies = given_cases
    seed = data.draw(st.integers(0, 5))
    counts = st.tuples(*[st.integers(1, 9)] * data.draw(st.integers(2, 4)))
    pixels = {item.id: data.draw(counts) for item in made if item.mask is not None}
    try:
        split = make_split(made, duplicates=copies, pixels=pixels, seed=seed)
    except DataError as error:
        assert "one patient" in str(error)  # noqa: PT017
        return
    assert split.keys() == {item.id for item in made}
    for key in ({item.id: item.patient for item in made}, copies):
        parts: dict[str, set[str]] = {}
        for name, group in key.items():
            if group is not None:
                parts.setdefault(group, set()).add(split[name])
        assert all(len(found) == 1 for found in parts.values())
    labelled_parts = {split[item.id] for item in made if item.mask is not None}
    assert {"train", "val"} <= labelled_parts
    shuffled = data.draw(st.permutations(made))
    assert make_split(shuffled, duplicates=copies, pixels=pixels, seed=seed) == split


@pytest.mark.parametrize("count", [10, 50, 998])
def test_ratios_are_met_to_the_nearest_case(count: int) -> None:
    sizes = Counter(make_split(cases(count)).values())
    assert abs(sizes["train"] - 0.8 * count) <= 1
    assert abs(sizes["val"] - 0.1 * count) <= 1


@given(sizes=st.lists(st.integers(1, 9), min_size=3, max_size=40), seed=st.integers(0, 9))
def test_ratios_are_met_to_the_nearest_patient(sizes: list[int], seed: int) -> None:
    made = [case(f"{p}/{i}", f"{p}") for p, size in enumerate(sizes) for i in range(size)]
    found = Counter(make_split(made, seed=seed).values())
    off = max(
        abs(found[part] - share * len(made))
        for part, share in (("train", 0.8), ("val", 0.1), ("test", 0.1))
    )
    # Dealt heaviest first, no hand ends more than a patient away; an empty one takes one more.
    assert off <= 2 * max(sizes)


def test_large_and_small_patients_are_in_every_part_alike() -> None:
    made = [case(f"{p}/{i}", f"{p}") for p in range(300) for i in range(1 if p % 2 else 20)]
    large = Counter[str]()
    for seed in range(5):
        split = make_split(made, seed=seed)
        large.update(split[f"{p}/0"] for p in range(0, 300, 2))
    assert large["train"] / large.total() == pytest.approx(0.8, abs=0.04)
    assert large["test"] / large.total() == pytest.approx(0.1, abs=0.03)


def test_uneven_patients_still_come_near_the_ratios() -> None:
    made = [case(f"{p}_{s}", patient=f"{p}") for p in range(30) for s in range(1 + p % 7)]
    sizes = Counter(make_split(made).values())
    assert abs(sizes["train"] / len(made) - 0.8) < 0.05
    assert abs(sizes["test"] / len(made) - 0.1) < 0.05


def test_three_groups_fill_three_parts_and_two_groups_two() -> None:
    assert sorted(make_split(cases(3)).values()) == ["test", "train", "val"]
    assert sorted(make_split(cases(2)).values()) == ["train", "val"]


def test_seeds_give_different_splits() -> None:
    assert make_split(cases(30), seed=0) != make_split(cases(30), seed=1)


def test_one_image_or_one_patient_is_too_little() -> None:
    with pytest.raises(DataError, match=r"1 labelled case cannot.*At least 2 are needed"):
        make_split(cases(1))
    with pytest.raises(DataError, match="one patient"):
        make_split([case("a", "p"), case("b", "p")])
    with pytest.raises(DataError, match="show the same image"):
        make_split(cases(2), duplicates={"000": "x", "001": "x"})


def test_unlabelled_cases_train_unless_their_patient_is_held_out() -> None:
    made = [case(f"{p}", patient=f"{p}") for p in range(10)]
    made += [case(f"{p}u", patient=f"{p}", labelled=False) for p in range(12)]
    split = make_split(made)
    assert all(split[f"{p}u"] == split[f"{p}"] for p in range(10))
    assert split["10u"] == split["11u"] == "train"


def test_folds_share_a_test_part_and_validate_on_every_other_case_once() -> None:
    splits = [make_split(cases(40), fold=fold, folds=5) for fold in range(5)]
    tests = [{name for name, part in split.items() if part == "test"} for split in splits]
    vals = [name for split in splits for name, part in split.items() if part == "val"]
    assert all(test == tests[0] for test in tests)
    assert sorted(vals) == sorted(set(splits[0]) - tests[0])


def test_folds_of_a_published_split_do_not_divide_a_patient_on_both_sides_of_it() -> None:
    made = [case(f"{p}a", f"{p}", "train") for p in range(12)]
    made += [case(f"{p}b", f"{p}", "val") for p in range(12)]
    for fold in range(3):
        split = make_split(made, fold=fold, folds=3)
        assert all(split[f"{p}a"] == split[f"{p}b"] for p in range(12))


def survey(made: list[Case], folds: tuple[dict[str, Split], ...] = ()) -> Survey:
    facts = tuple(CaseFacts(item.id, "", "", item.id, 1, 2, (1, 1)) for item in made)
    return Survey(Dataset(Path("d"), "", "", tuple(made), folds=folds), None, 1, facts, ())


PUBLISHED: tuple[dict[str, Split], ...] = (
    {"a": "val", "b": "train", "c": "train"},
    {"a": "train", "b": "val", "c": "train"},
    {"a": "train", "b": "train", "c": "val"},
)


@pytest.mark.parametrize("fold", [None, 0, 1, 2])
def test_a_published_fold_is_kept_and_the_first_one_is_the_default(fold: int | None) -> None:
    made = [case("a"), case("b"), case("c"), case("t", split="test")]
    found = divide(survey(made, PUBLISHED), fold=fold)
    assert found.parts == {**PUBLISHED[fold or 0], "t": "test"}
    assert (found.fold, found.folds) == (fold or 0, 3)


def test_a_published_split_besides_published_folds_is_the_default() -> None:
    made = [case("a", split="train"), case("b", split="val"), case("c", split="train")]
    assert divide(survey(made, PUBLISHED)).parts == {"a": "train", "b": "val", "c": "train"}
    assert divide(survey(made, PUBLISHED), fold=2).parts["c"] == "val"


def test_another_number_of_folds_than_published_is_refused() -> None:
    made = [case("a"), case("b"), case("c")]
    with pytest.raises(DataError, match="are 5, but the dataset publishes 3"):
        divide(survey(made, PUBLISHED), fold=0, folds=5)
    with pytest.raises(DataError, match="is 3 of 3"):
        divide(survey(made, PUBLISHED), fold=3)


def test_bad_folds_and_ratios_are_refused() -> None:
    with pytest.raises(DataError, match="counted from 0"):
        make_split(cases(20), fold=5)
    with pytest.raises(DataError, match="only 3 patients"):
        make_split(cases(4), fold=0)
    for ratios in ((0.5, 0.1, 0.1), (0.0, 0.5, 0.5), (1.2, -0.1, -0.1)):
        with pytest.raises(DataError, match="add up to 1"):
            make_split(cases(20), ratios=ratios)


def test_a_published_split_is_kept() -> None:
    parts: list[Split] = ["train", "train", "val", "test"]
    made = [case(str(index), split=part) for index, part in enumerate(parts)]
    assert list(make_split(made, seed=7).values()) == parts


def test_a_missing_validation_part_is_drawn_from_training_by_patient() -> None:
    made = [case(f"{index}", patient=f"p{index // 2}", split="train") for index in range(36)]
    made += [case(f"t{index}", split="test") for index in range(5)]
    split = make_split(made)
    assert all(split[f"t{index}"] == "test" for index in range(5))
    assert all(split[f"{index}"] == split[f"{index + 1}"] for index in range(0, 36, 2))
    assert Counter(split.values()) == {"train": 32, "val": 4, "test": 5}


def test_a_missing_test_part_is_not_invented() -> None:
    made = [case(f"{index}", split="val" if index < 3 else "train") for index in range(20)]
    assert Counter(make_split(made).values()) == {"val": 3, "train": 17}


def test_cases_outside_a_published_split_follow_their_patient_or_train() -> None:
    made = [case("a", "p", "test"), case("b", "p"), case("c"), case("d", split="train")]
    made += [case("e", split="val")]
    split = make_split(made)
    assert (split["b"], split["c"]) == ("test", "train")


def test_a_published_split_without_training_cases_is_refused() -> None:
    with pytest.raises(DataError, match="no labelled training cases"):
        make_split([case("a", split="test"), case("b", split="test")])
