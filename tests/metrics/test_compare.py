from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.errors import MedsegError
from medseg.metrics.compare import Comparison, compare
from medseg.metrics.paired import permutation_test
from medseg.metrics.statistics import bootstrap_mean
from medseg.metrics.tables import read_table, systems_named
from medseg.report.comparison import (
    headline,
    markdown,
    method_notes,
    number,
    p_value,
    power_note,
    seed_notes,
    verdict,
)


def table(path: Path, values: Mapping[str, object], **columns: Mapping[str, object]) -> Path:
    """A per-case table of Dice; blank values are undefined."""
    lines = [",".join(["case", *columns, "dice"])]
    for case, value in values.items():
        lines.append(
            ",".join([case, *(str(of.get(case, "")) for of in columns.values()), f"{value}"])
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def numbered(values: Sequence[object]) -> dict[str, object]:
    return {f"case{place:03}": value for place, value in enumerate(values)}


def pair_of(folder: Path, first: Sequence[object], second: Sequence[object]) -> Comparison:
    return compare(
        {
            "A": [table(folder / "a.csv", numbered(first))],
            "B": [table(folder / "b.csv", numbered(second))],
        }
    )


def drawn(folder: Path, shifts: Mapping[str, float], cases: int = 30) -> dict[str, list[Path]]:
    """Systems that differ by a shift and noise on the same cases."""
    rng = np.random.default_rng(0)
    base = rng.beta(8, 3, cases)
    return {
        name: [table(folder / f"{name}.csv", numbered(base + shift + rng.normal(0, 0.02, cases)))]
        for name, shift in shifts.items()
    }


def test_the_difference_and_its_tests_are_those_of_the_paired_values(tmp_path: Path) -> None:
    first, second = [0.5, 0.6, 0.9, 0.3], [0.7, 0.65, 0.85, 0.6]
    (found,) = pair_of(tmp_path, first, second).pairs
    apart = np.subtract(second, first)
    assert (found.better, found.other) == ("B", "A")
    assert found.advantage == bootstrap_mean(apart)
    assert found.d_z == pytest.approx(apart.mean() / apart.std(ddof=1))
    assert found.p == found.p_holm == permutation_test(apart)
    assert (found.wins, found.ties, found.losses) == (3, 0, 1)


def test_cases_are_paired_by_name_whatever_their_order(tmp_path: Path) -> None:
    values = {"x": 0.1, "y": 0.5, "z": 0.8}
    better = {case: value + 0.1 for case, value in values.items()}
    straight = {"A": [table(tmp_path / "a.csv", values)], "B": [table(tmp_path / "b.csv", better)]}
    turned = {
        "A": [table(tmp_path / "a2.csv", dict(reversed(values.items())))],
        "B": [table(tmp_path / "b2.csv", better)],
    }
    assert compare(straight).pairs == compare(turned).pairs


def test_the_order_of_the_systems_changes_nothing_of_a_pair(tmp_path: Path) -> None:
    systems = drawn(tmp_path, {"A": 0.0, "B": 0.01})
    assert compare(systems).pairs == compare(dict(reversed(systems.items()))).pairs


def test_of_distances_the_lower_is_better(tmp_path: Path) -> None:
    paths = {}
    for name, shift in (("A", 2), ("B", 0)):
        path = tmp_path / f"{name}.csv"
        path.write_text("case,hd95\n" + "".join(f"{n},{n + shift + n % 2}\n" for n in range(9)))
        paths[name] = [path]
    found = compare(paths, metric="hd95")
    assert found.lower_is_better
    assert found.pairs[0].better == "B"
    assert found.pairs[0].advantage.mean == pytest.approx(2)
    assert [system.name for system in found.ranked()] == ["B", "A"]
    assert compare(paths, metric="hd95", lower_is_better=False).pairs[0].better == "A"


def test_undefined_values_are_left_out_of_their_pairs_and_counted(tmp_path: Path) -> None:
    found = pair_of(tmp_path, [0.1, "", 0.3, 0.4], [0.2, 0.9, "nan", 0.6])
    (pair,) = found.pairs
    assert (pair.advantage.n, pair.advantage.skipped) == (2, 2)
    assert pair.advantage.mean == pytest.approx(0.15)
    assert found.complete == 2
    assert "2 undefined cases left out" in verdict(found, pair)


def test_without_a_class_the_mean_over_the_classes_of_a_case_is_compared(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("case,class,dice\nx,disc,0.2\nx,cup,0.6\ny,disc,\ny,cup,0.5\n")
    assert read_table(path, "dice").values == {"x": pytest.approx(0.4), "y": 0.5}
    disc = read_table(path, "dice", "disc").values
    assert disc["x"] == 0.2
    assert math.isnan(disc["y"])


def test_failures_are_counted_by_case(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        "case,class,status,dice\nx,disc,missing prediction,0\nx,cup,missing prediction,0\n"
        "y,disc,ok,1\ny,cup,ok,1\n"
    )
    other = tmp_path / "b.csv"
    other.write_text(path.read_text().replace("missing prediction", "ok"))
    found = compare({"A": [path], "B": [other]})
    assert [system.failures for system in found.systems] == [1, 0]


def test_patients_are_kept_together(tmp_path: Path) -> None:
    values = np.random.default_rng(1).normal(0.03, 0.1, 40)
    patients = {f"case{place:03}": f"p{place // 4}" for place in range(40)}
    zero = table(tmp_path / "a.csv", numbered([0] * 40))
    found = compare(
        {"A": [zero], "B": [table(tmp_path / "b.csv", numbered(values), patient=patients)]}
    )
    (pair,) = found.pairs
    assert (found.unit, found.units) == ("patient", 10)
    assert pair.advantage == bootstrap_mean(values, groups=list(patients.values()))
    assert pair.p == permutation_test(values.reshape(10, 4).sum(axis=1))
    assert "over 40 cases of 10 patients" in verdict(found, pair)
    assert not any("independent" in note for note in method_notes(found))


def test_patients_of_one_case_each_change_nothing_but_are_no_clusters(tmp_path: Path) -> None:
    plain = pair_of(tmp_path, [0.1, 0.2, 0.4], [0.3, 0.3, 0.6])
    patients = {f"case{place:03}": f"p{place}" for place in range(3)}
    named = table(tmp_path / "a.csv", numbered([0.1, 0.2, 0.4]), patient=patients)
    again = compare({"A": [named], "B": [tmp_path / "b.csv"]})
    assert again == plain
    assert any("Cases count as independent" in note for note in method_notes(plain))


def test_seeds_are_averaged_for_each_case_and_are_no_cases(tmp_path: Path) -> None:
    seeds = [[0.1, 0.5, 0.6, 0.9], [0.3, 0.7, 0.8, 1.1]]
    files = [table(tmp_path / f"{n}.csv", numbered(values)) for n, values in enumerate(seeds)]
    other = table(tmp_path / "other.csv", numbered([0.1, 0.4, 0.7, 0.8]))
    found = compare({"A": files, "B": [other]})
    averaged = table(tmp_path / "mean.csv", numbered(np.mean(seeds, axis=0).tolist()))
    alone = compare({"A": [averaged], "B": [other]})
    assert found.pairs == alone.pairs
    assert found.pairs[0].advantage.n == 4
    score = found.systems[0]
    assert score.seed_means == pytest.approx((0.525, 0.725))
    assert score.variation is not None
    assert score.variation.seed_sd == pytest.approx(math.sqrt(0.02))
    assert score.variation.rest == pytest.approx(0, abs=1e-15)
    (note,) = seed_notes(found)
    assert "from seed to seed (2) the mean has a standard deviation of 0.141" in note
    assert found.systems[1].variation is None


def test_one_table_is_said_to_say_nothing_of_training_again(tmp_path: Path) -> None:
    notes = method_notes(pair_of(tmp_path, [0.1, 0.2], [0.2, 0.5]))
    assert any("One table of all systems" in note for note in notes)


def test_ranks_of_well_separated_systems_never_move(tmp_path: Path) -> None:
    found = compare(drawn(tmp_path, {"A": 0.0, "B": 0.3, "C": -0.3}))
    assert {system.name: system.rank for system in found.systems} == {"B": 1, "A": 2, "C": 3}
    shares = {system.name: system.rank_shares for system in found.systems}
    assert shares == {"B": (1, 0, 0), "A": (0, 1, 0), "C": (0, 0, 1)}
    assert [system.mean_rank for system in found.ranked()] == [1, 2, 3]


def test_equal_systems_share_their_rank_and_cannot_be_told_apart(tmp_path: Path) -> None:
    values = [0.2, 0.4, 0.9]
    found = pair_of(tmp_path, values, values)
    assert [system.rank for system in found.systems] == [1, 1]
    assert [system.rank_shares for system in found.systems] == [(1, 0), (1, 0)]
    assert verdict(found, found.pairs[0]) == "A and B score the same on 3 cases."
    assert found.pairs[0].p == found.pairs[0].p_wilcoxon == 1
    assert found.pairs[0].needed is None


def test_p_values_of_several_pairs_are_holm_corrected(tmp_path: Path) -> None:
    found = compare(drawn(tmp_path, {"A": 0.0, "B": 0.012, "C": 0.002}))
    lowest = min(found.pairs, key=lambda pair: pair.p or 0)
    assert lowest.p is not None
    assert lowest.p_holm == pytest.approx(3 * lowest.p)


def test_a_single_case_has_no_interval_and_no_test_and_says_so(tmp_path: Path) -> None:
    found = pair_of(tmp_path, [0.5], [0.7])
    (pair,) = found.pairs
    assert (pair.advantage.low, pair.p, pair.p_wilcoxon, pair.needed) == (None, None, None, None)
    assert verdict(found, pair) == (
        "B is ahead of A by 0.200 Dice on a single case: too few for an interval or a test."
    )
    assert power_note(found) == ""
    json.loads(found.to_json())


def test_cases_of_a_single_patient_have_no_interval_either(tmp_path: Path) -> None:
    patients = dict.fromkeys(numbered([0] * 5), "p")
    better = table(tmp_path / "b.csv", numbered([0.2, 0.3, 0.4, 0.5, 0.7]), patient=patients)
    found = compare({"A": [table(tmp_path / "a.csv", numbered([0.1] * 5))], "B": [better]})
    assert "on 5 cases of a single patient" in verdict(found, found.pairs[0])


def test_no_case_that_both_define_is_said(tmp_path: Path) -> None:
    found = pair_of(tmp_path, [0.5, ""], ["", 0.7])
    assert "are both defined on no case; 2 undefined cases left out" in verdict(
        found, found.pairs[0]
    )
    json.loads(found.to_json())
    assert markdown(found)


def test_what_cannot_be_told_apart_is_not_called_better(tmp_path: Path) -> None:
    found = pair_of(tmp_path, [0.5, 0.6, 0.7, 0.4], [0.6, 0.5, 0.8, 0.4])
    said = verdict(found, found.pairs[0])
    assert said.startswith("B and A cannot be told apart: B is ahead by 0.025 Dice (")
    assert "p = 1, over 4 cases." in said or "p = 0." in said
    assert "better" not in said


def test_too_few_cases_for_any_p_are_said(tmp_path: Path) -> None:
    notes = method_notes(pair_of(tmp_path, [0.1, 0.2, 0.3, 0.4], [0.2, 0.4, 0.6, 0.8]))
    assert any("With 4 cases no permutation p can be below 0.12" in note for note in notes)


def test_the_power_note_is_one_sentence(tmp_path: Path) -> None:
    found = compare(drawn(tmp_path, {"A": 0.0, "B": 0.01}))
    (pair,) = found.pairs
    assert pair.advantage.mean is not None
    assert power_note(found) == (
        f"If B is truly ahead by {number(pair.advantage.mean)}, about {pair.needed} cases would "
        "show it with 80 % power at alpha 0.05; there are 30."
    )


def test_different_cases_are_refused_and_both_differences_listed(tmp_path: Path) -> None:
    first = table(tmp_path / "a.csv", {"x": 0.1, "y": 0.2, **numbered(range(7))})
    second = table(tmp_path / "b.csv", {"y": 0.2, "z": 0.3})
    with pytest.raises(MedsegError) as refused:
        compare({"A": [first], "B": [second]})
    said = str(refused.value)
    assert f"only in {first}: x, case000, case001, case002, case003 and 3 more" in said
    assert f"only in {second}: z" in said
    assert "--common" in said
    found = compare({"A": [first], "B": [second]}, common=True)
    assert (found.cases, found.dropped) == (1, 9)


def test_tables_without_a_common_case_are_refused_even_so(tmp_path: Path) -> None:
    first, second = table(tmp_path / "a.csv", {"x": 1}), table(tmp_path / "b.csv", {"y": 1})
    with pytest.raises(MedsegError, match="no case in common"):
        compare({"A": [first], "B": [second]}, common=True)


def test_scores_against_different_truths_are_refused(tmp_path: Path) -> None:
    first = table(tmp_path / "a.csv", {"x": 0.1}, truth_pixels={"x": 120})
    second = table(tmp_path / "b.csv", {"x": 0.1}, truth_pixels={"x": 99})
    with pytest.raises(MedsegError, match="the truth of case 'x' has 99 pixels, and 120 in"):
        compare({"A": [first], "B": [second]})


def test_tables_that_name_different_patients_are_refused(tmp_path: Path) -> None:
    first = table(tmp_path / "a.csv", {"x": 0.1}, patient={"x": "p"})
    second = table(tmp_path / "b.csv", {"x": 0.1}, patient={"x": "q"})
    with pytest.raises(MedsegError, match="case 'x' is of patient 'q', elsewhere of 'p'"):
        compare({"A": [first], "B": [second]})


def test_tables_of_different_classes_are_refused(tmp_path: Path) -> None:
    first = table(tmp_path / "a.csv", {"x": 0.1}, **{"class": {"x": "cup"}})
    second = table(tmp_path / "b.csv", {"x": 0.1}, **{"class": {"x": "disc"}})
    with pytest.raises(MedsegError, match=r"its classes \(disc\) are not those of .* \(cup\)"):
        compare({"A": [first], "B": [second]})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no column 'case' (found: nothing)"),
        ("id,dice\n1,2\n", "no column 'case' (found: id, dice)"),
        ("case;dice\nx;0,5\n", "no column 'case' (found: case;dice)"),
        ("case,dice\n", "it lists no cases"),
        ("case,dcie\nx,1\n", "Did you mean 'dcie'?"),
        ("case,dice\nx,high\n", "line 2: dice is 'high', which is no number"),
        ("case,dice\nx,inf\n", "line 2: dice is inf, which has no mean"),
        ("case,dice\nx,-1e300\n", "line 2: dice is -1e300, which has no mean"),
        ("case,dice\nx,1\nx,2\n", "line 3: case 'x' is there twice"),
        ("case,dice\n,1\n", "line 2: the case has no id"),
        ("case,dice\nx,1\ny\n", "line 3: 1 value below 2 columns"),
        ("case,dice,dice\nx,1,2\n", "the column 'dice' twice"),
        ("case,class,patient,dice\nx,a,p,1\nx,b,q,1\n", "case 'x' has two patients, 'p' and 'q'"),
        ('case,dice\n"x,1\n', "cannot be read as a table"),
        ("case,status\nx,ok\n", "it has no metric 'dice'"),
    ],
)
def test_what_is_no_table_of_scores_is_refused_in_words(
    tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(MedsegError) as refused:
        read_table(path, "dice")
    assert said in str(refused.value)
    assert str(path) in str(refused.value)


def test_columns_that_are_no_scores_are_not_compared(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", {"x": 1}, truth_pixels={"x": 9})
    with pytest.raises(MedsegError, match="no metric 'truth_pixels'"):
        read_table(path, "truth_pixels")


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=60) | st.text('case,dice\n\r"x1.;-\0', max_size=60).map(str.encode))
def test_no_file_whatever_breaks_the_reader(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(b"case,dice\n" + data)
    try:
        found = read_table(path, "dice").values
    except MedsegError as refused:
        blamed = refused.where
    else:
        blamed = str(path)
        assert found
        assert not any(map(math.isinf, found.values()))
    assert blamed.startswith(str(path))


def test_tables_from_spreadsheets_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("\ufeffcase,dice\r\nx,0.5\r\n\r\n", encoding="utf-8")
    assert read_table(path, "dice").values == {"x": 0.5}


def test_fewer_than_two_systems_or_one_without_a_table_are_refused(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", {"x": 1})
    with pytest.raises(MedsegError, match="1 system to compare"):
        compare({"A": [path]})
    with pytest.raises(MedsegError, match="B: the system has no table"):
        compare({"A": [path], "B": []})


def test_many_seeds_may_be_longer_than_a_file_name() -> None:
    seeds = [f"seed{number:03}.csv" for number in range(60)]
    assert systems_named([f"a={','.join(seeds)}", "b.csv"])["a"] == tuple(map(Path, seeds))


def test_systems_take_the_names_given_or_those_that_tell_their_files_apart() -> None:
    assert systems_named(["a.csv", "b=c.csv,d.csv"]) == {
        "a": (Path("a.csv"),),
        "b": (Path("c.csv"), Path("d.csv")),
    }
    assert list(systems_named(["one/test.csv", "two/test.csv"])) == ["one/test", "two/test"]
    assert list(systems_named(["a.csv", "b.csv"], ["Ours", "Theirs"])) == ["Ours", "Theirs"]


def test_a_file_whose_name_holds_signs_of_the_command_line_is_taken_as_it_is(
    tmp_path: Path,
) -> None:
    path = table(tmp_path / "a=1,2.csv", {"x": 1})
    assert systems_named([str(path), "b.csv"])["a=1,2"] == (path,)


@pytest.mark.parametrize(
    ("tables", "names", "said"),
    [
        (["a.csv", "a.csv"], None, "the table is given twice"),
        (["x=a.csv", "x=b.csv"], None, "x: two systems have this name"),
        (["a.csv", "b.csv"], ["x"], "1 names for 2 systems"),
        (["=a.csv", "b.csv"], None, "=a.csv: a name or a file is missing"),
        (["x=a.csv,,b.csv", "c.csv"], None, "a name or a file is missing"),
    ],
)
def test_names_that_do_not_fit_are_refused(
    tables: list[str], names: list[str] | None, said: str
) -> None:
    with pytest.raises(MedsegError) as refused:
        systems_named(tables, names)
    assert said in str(refused.value)


def test_json_holds_every_number_and_csv_a_line_for_every_pair(tmp_path: Path) -> None:
    found = compare(drawn(tmp_path, {"A": 0.0, "B": 0.01, "C": 0.1}))
    data = json.loads(found.to_json())
    assert data["pairs"][0]["p_holm"] == found.pairs[0].p_holm
    assert data["critical_difference"] == found.critical_difference
    lines = found.to_csv().splitlines()
    assert len(lines) == 4
    assert lines[1].startswith("dice,B,A,")


def test_the_same_tables_give_the_same_bytes(tmp_path: Path) -> None:
    systems = drawn(tmp_path, {"A": 0.0, "B": 0.01, "C": 0.1})
    for suffix in (".json", ".csv", ".md", ".html", ".svg", ".png"):
        contents = []
        for _ in range(2):
            compare(systems).save(tmp_path / f"out{suffix}")
            contents.append((tmp_path / f"out{suffix}").read_bytes())
        assert contents[0] == contents[1], suffix


def test_names_are_text_in_every_format(tmp_path: Path) -> None:
    name = "<b>|$x$ & `y`</b>"
    systems = drawn(tmp_path, {"A": 0.0, "B": 0.01, "C": 0.1})
    found = compare({name: systems["A"], "B": systems["B"], "C": systems["C"]})
    for suffix in (".html", ".svg"):
        found.save(tmp_path / f"out{suffix}")
        text = (tmp_path / f"out{suffix}").read_text(encoding="utf-8")
        assert "<b>" not in text
        assert "$x$ &amp; `y`" in text
    lines = markdown(found).splitlines()
    rows = [line.replace("\\|", "") for line in lines if line.startswith("|")]
    assert {row.count("|") for row in rows} == {9, 13}


def test_the_plot_shows_every_system_with_its_mean_rank(tmp_path: Path) -> None:
    found = compare(drawn(tmp_path, {"A": 0.0, "B": 0.01, "C": 0.1, "D": 0.005}))
    found.save(tmp_path / "ranks.svg")
    text = (tmp_path / "ranks.svg").read_text(encoding="utf-8")
    assert f"CD = {found.critical_difference:.2f}" in text
    assert "Mean rank by Dice over 30 cases; 1 is best" in text
    for system in found.systems:
        assert f"{system.mean_rank:.2f}" in text


def test_headlines_name_metric_direction_class_and_cases(tmp_path: Path) -> None:
    found = pair_of(tmp_path, [0.1, 0.2], [0.2, 0.5])
    assert headline(found) == "Dice (higher is better) over 2 cases"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.8, "0.800"), (12.345, "12.35"), (0.00123, "0.0012"), (0.0, "0.000"), (-0.02, "-0.020")],
)
def test_numbers_show_two_digits_that_count(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("p", "text"), [(0.0324, "= 0.032"), (0.0001, "< 0.001"), (1.0, "= 1"), (0.4, "= 0.4")]
)
def test_p_values_are_never_rounded_to_zero(p: float, text: str) -> None:
    assert p_value(p) == text
