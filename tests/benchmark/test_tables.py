import csv
import io
from pathlib import Path

import pytest

from benchmark.synthetic import benchmark_folder
from medseg.benchmark.reading import Results, Task
from medseg.benchmark.tables import (
    all_tables,
    efficiency,
    groups,
    overview,
    pairs,
    pairs_with_best,
    published,
    scores,
    trainings,
)
from medseg.benchmark.tabular import Entry, Table, as_files, csv_text, markdown

GLAS = Task("glas", "glas")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    out = tmp_path_factory.mktemp("bench") / "out"
    return Results.read(benchmark_folder(out, failed=[("unet", "glas", 1)]))


def lines(table: Table) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(csv_text(table))))


def test_the_best_is_bold_and_all_others_have_a_p_against_it(results: Results) -> None:
    rows = {row[0].text: row[2:] for row in overview(results).rows}
    assert all(entry.bold for entry in rows["med2d-segnet"])
    for system in ("encoder-plain", "encoder-residual", "unet"):
        for entry in rows[system]:
            assert not entry.bold
            assert any(part.startswith("p ") for part in entry.small)


def test_where_nothing_was_tested_nothing_is_bold(tmp_path: Path) -> None:
    results = Results.read(benchmark_folder(tmp_path / "out", cases=1))
    entries = [entry for row in overview(results).rows for entry in row[2:]]
    assert not any(entry.bold for entry in entries)
    assert all("one case: no interval" in entry.small for entry in entries)


def test_two_equal_systems_are_both_not_bold(tmp_path: Path) -> None:
    results = Results.read(benchmark_folder(tmp_path / "out", systems={"a": 0.8, "b": 0.8}))
    assert not any(entry.bold for row in overview(results).rows for entry in row)


def test_missing_seeds_are_said_beside_the_number(results: Results) -> None:
    (row,) = [row for row in overview(results).rows if row[0].text == "unet"]
    assert "2 of 3 seeds" in row[3].small
    assert "2 of 3 seeds" not in row[2].small


def test_csv_numbers_are_not_rounded(results: Results) -> None:
    for line in lines(scores(results, GLAS)):
        score = results.score(line["system"], GLAS, line["metric"])
        assert score is not None
        assert float(line["mean"]) == score.mean.mean
        assert float(line["low"]) == score.mean.low
        assert float(line["seed_sd"]) == score.seed_sd


def test_every_pair_is_there_once_for_each_task(results: Results) -> None:
    assert len(lines(pairs(results))) == 6 * len(results.tasks)


def test_of_many_pairs_a_page_shows_those_with_the_best(tmp_path: Path) -> None:
    systems = {f"s{number}": 0.5 + 0.03 * number for number in range(12)}
    out = benchmark_folder(tmp_path / "out", systems=systems, data=["glas"], unseen=[], cases=6)
    results = Results.read(out)
    assert len(pairs(results).rows) == 66
    shown = pairs_with_best(results)
    assert len(shown.rows) == 11
    assert all("s11" in (row[1].text, row[2].text) for row in shown.rows)


def test_a_failed_training_is_a_row_with_its_error(results: Results) -> None:
    failed = [line for line in lines(trainings(results)) if line["status"] == "failed"]
    assert [(line["system"], line["seed"]) for line in failed] == [("unet", "1")]
    assert "out of memory" in failed[0]["error"]


def test_published_numbers_stand_in_no_other_table(results: Results) -> None:
    others = [table for table in all_tables(results) if table.name != "published"]
    assert not any("SOTA-Net" in markdown(table) for table in others)
    rows = {line["system"]: line for line in lines(published(results))}
    assert (rows["SOTA-Net"]["published"], rows["SOTA-Net"]["ours"]) == ("0.95", "")
    assert float(rows["unet"]["ours"]) < 0.91
    assert "352 px" in rows["unet"]["protocol"]


def test_what_was_not_measured_is_blank_and_said(tmp_path: Path) -> None:
    out = benchmark_folder(tmp_path / "out", efficiency=False)
    table = efficiency(Results.read(out))
    assert "were not measured" in table.caption
    assert {line["macs"] for line in lines(table)} == {""}
    assert lines(table)[0]["parameters"] == "2069041"


def test_a_system_without_a_latency_in_onnx_runtime_says_why(results: Results) -> None:
    table = efficiency(results)
    place = table.head.index("ONNX, ms")
    said = {row[0].text: row[place] for row in table.rows}
    assert said["unet"] == Entry("-", ("it cannot be exported to ONNX (a loop)",))
    assert said["encoder-plain"] == Entry("17.94", ("IQR 0.5",))
    assert {line["onnx_note"] for line in lines(table)} == {
        "", "it cannot be exported to ONNX (a loop)"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("convention", "said"), [(None, "as medseg does by default"), ("monai", "as monai does")]
)
def test_captions_name_the_convention(tmp_path: Path, convention: str | None, said: str) -> None:
    out = benchmark_folder(tmp_path / "out", cases=2, seeds=[0])
    if convention is not None:
        with (out / "spec.yaml").open("a") as spec:
            spec.write(f"convention: {convention}\n")
    results = Results.read(out)
    for table in (overview(results), scores(results, GLAS)):
        assert said in table.caption


def test_alike_images_are_named_in_the_caption(results: Results) -> None:
    caption = scores(results, Task("dsb2018", "cvc_clinicdb")).caption
    assert "2 cases of cvc_clinicdb nearly alike to images of dsb2018, 1 of them" in caption


def test_metrics_of_which_less_is_better_are_named(results: Results) -> None:
    assert "Of HD95 less is better." in scores(results, GLAS).caption


def test_each_table_has_three_files_of_its_own(results: Results) -> None:
    tables = all_tables(results)
    assert len(as_files(tables)) == 3 * len(tables)


@pytest.fixture(scope="module")
def with_groups(tmp_path_factory: pytest.TempPathFactory) -> Results:
    out = tmp_path_factory.mktemp("groups") / "out"
    systems = {"unet": 0.78, "med2d-segnet": 0.86}
    return Results.read(benchmark_folder(out, systems=systems, groups="ffm"))


def test_groups_are_a_table_with_the_worst_and_equity_scaled_scores(with_groups: Results) -> None:
    table = groups(with_groups, GLAS)
    assert [row[1].text for row in table.rows] == list(with_groups.systems)
    row = dict(zip(table.head, table.rows[0], strict=True))
    (dice,) = with_groups.equity("unet", GLAS)
    assert row["Attribute"].text == "sex"
    assert row["Worst group"].text == f"{dice.groups['m'].mean:.3f}"
    assert row["Worst group"].small[0] == "m"
    assert row["Equity-scaled Dice"].text == f"{dice.equity_scaled:.3f}"
    assert row["Groups"].small[1] == f"m {dice.groups['m'].mean:.3f} (10)"
    (record, *_) = [r for r in lines(table) if (r["metric"], r["group"]) == ("iou", "f")]
    assert float(record["equity_scaled"]) < float(record["overall"]) < float(record["mean"])


def test_the_table_of_scores_has_a_column_for_the_worst_group(with_groups: Results) -> None:
    table = scores(with_groups, GLAS)
    assert "Worst sex" in table.head
    assert table.rows[0][table.head.index("Worst sex")].small[0] == "m"


def test_without_groups_there_is_no_table_of_them(results: Results) -> None:
    assert not groups(results, GLAS).rows
    assert "groups-glas" not in {table.name for table in all_tables(results)}
    assert not any("Worst" in title for title in scores(results, GLAS).head)
