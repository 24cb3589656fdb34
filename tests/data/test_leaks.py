from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from medseg.data.case import SPLITS, Case, Split
from medseg.data.leaks import find_leaks, leak_error, summary
from medseg.data.source import File
from medseg.data.splits import make_split
from medseg.errors import DataError


def case(name: str, patient: str | None = None, split: Split | None = None) -> Case:
    return Case(name, File(Path("i.png")), File(Path("m.png")), patient, split)


def test_a_patient_in_two_parts_is_a_leak_and_its_cases_are_named() -> None:
    made = [case("a", "p"), case("b", "p"), case("c", "q"), case("d")]
    split: dict[str, Split] = {"a": "train", "b": "val", "c": "test", "d": "test"}
    (leak,) = find_leaks(made, split, {})
    assert str(leak) == "patient p: a in train; b in val"
    assert find_leaks(made, {**split, "b": "train"}, {}) == ()


def test_validation_and_test_leak_too() -> None:
    (leak,) = find_leaks([case("a"), case("b")], {"a": "val", "b": "test"}, {"a": "x", "b": "x"})
    assert str(leak) == "alike images: a in val; b in test"


def test_alike_images_of_a_patient_who_leaks_are_not_told_twice() -> None:
    made = [case("a", "p"), case("b", "p"), case("c", "q")]
    split: dict[str, Split] = {"a": "train", "b": "test", "c": "val"}
    assert len(find_leaks(made, split, {"a": "x", "b": "x"})) == 1
    assert len(find_leaks(made, split, {"a": "x", "b": "x", "c": "x"})) == 2


def test_cases_that_the_split_leaves_out_stand_in_their_published_part() -> None:
    made = [case("a", "p"), case("b", "p", "test")]
    assert len(find_leaks(made, {"a": "train"}, {})) == 1


def test_many_cases_are_counted_and_only_the_first_are_named() -> None:
    made = [case(f"{i}", "p") for i in range(9)]
    split: dict[str, Split] = {f"{i}": "test" if i else "train" for i in range(9)}
    leaks = find_leaks(made, split, {})
    assert str(leaks[0]) == "patient p: 0 in train; 1, 2, 3 and 5 more in test"
    assert summary(leaks) == "1 patient (9 cases)"


def test_the_error_lists_leaks_and_both_ways_out() -> None:
    made = [case(f"{i}{side}", f"{i}") for i in range(30) for side in "ab"]
    split: dict[str, Split] = {each.id: "train" if "a" in each.id else "test" for each in made}
    error = leak_error("data", find_leaks(made, split, {"0a": "x", "1b": "x"}))
    text = str(error)
    assert text.startswith("data: the split leaks: 30 patients and 1 group of alike images (60 ")
    assert "Remove the copies" in text
    assert "--allow-leak" in text
    assert "patient 0: 0a in train; 0b in test" in text
    assert "... and 11 more" in text


@given(
    patients=st.lists(st.none() | st.sampled_from("pqrs"), min_size=2, max_size=15),
    clusters=st.lists(st.sampled_from("uvwxyz"), min_size=15, max_size=15),
    parts=st.lists(st.sampled_from(SPLITS), min_size=15, max_size=15),
)
def test_a_split_has_a_leak_exactly_when_two_that_belong_together_are_apart(
    patients: list[str | None], clusters: list[str], parts: list[Split]
) -> None:
    made = [case(f"{i}", patient) for i, patient in enumerate(patients)]
    alike = dict(zip((each.id for each in made), clusters, strict=False))
    split = dict(zip((each.id for each in made), parts, strict=False))
    apart = any(
        split[a.id] != split[b.id]
        and (alike[a.id] == alike[b.id] or (a.patient is not None and a.patient == b.patient))
        for a in made
        for b in made
    )
    assert bool(find_leaks(made, split, alike)) == apart
    try:
        drawn = make_split(made, duplicates=alike)
    except DataError:
        return
    assert find_leaks(made, drawn, alike) == ()
