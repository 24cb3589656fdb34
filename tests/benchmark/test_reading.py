import json
from pathlib import Path

import numpy as np
import pytest

from benchmark.synthetic import benchmark_folder
from medseg.benchmark.reading import NOT_RUN, Results, Task, Twins
from medseg.errors import DataError, MedsegError
from medseg.metrics.tables import read_table

GLAS = Task("glas", "glas")
ABROAD = Task("dsb2018", "cvc_clinicdb")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return Results.read(benchmark_folder(tmp_path_factory.mktemp("bench") / "out"))


def cell(out: Path, system: str = "unet", data: str = "glas", seed: int = 0) -> Path:
    return out / "cells" / system / data / f"seed-{seed}"


def test_the_mean_and_its_interval_are_those_of_the_comparison(results: Results) -> None:
    for metric in ("dice", "hd95"):
        comparison = results.comparison(GLAS, metric)
        assert comparison is not None
        for compared in comparison.systems:
            score = results.score(compared.name, GLAS, metric)
            assert score is not None
            assert score.mean == compared.mean
            assert compared.variation is not None
            assert score.seed_sd == pytest.approx(compared.variation.seed_sd)


def test_seeds_are_no_further_cases(results: Results) -> None:
    score = results.score("unet", GLAS)
    means = [
        np.mean(list(read_table(cell(results.out, seed=seed) / "test.csv", "dice").values.values()))
        for seed in (0, 1, 2)
    ]
    assert score is not None
    assert (score.mean.n, score.seeds) == (30, 3)
    assert score.mean.mean == pytest.approx(np.mean(means))
    assert score.seed_sd == pytest.approx(np.std(means, ddof=1))


def test_test_parts_come_before_unseen_data(results: Results) -> None:
    assert [task.title for task in results.tasks] == [
        "dsb2018",
        "glas",
        "cvc_clinicdb, trained on dsb2018",
        "cvc_clinicdb, trained on glas",
    ]


def test_cases_of_one_patient_count_as_one_for_the_interval(tmp_path: Path) -> None:
    score = Results.read(benchmark_folder(tmp_path / "out", patients=6)).score("unet", GLAS)
    assert score is not None
    assert (score.mean.n, score.mean.groups) == (30, 6)


def test_failed_and_missing_cells_are_there_without_scores(tmp_path: Path) -> None:
    out = benchmark_folder(
        tmp_path / "out", failed=[("unet", "glas", 1)], missing=[("unet", "glas", 2)]
    )
    results = Results.read(out)
    assert [(each.seed, each.status) for each in results.failed] == [(1, "failed"), (2, NOT_RUN)]
    score = results.score("unet", GLAS)
    assert score is not None
    assert (score.seeds, score.seed_sd) == (1, None)


def test_a_system_without_a_score_has_the_last_rank(tmp_path: Path) -> None:
    failed = [("med2d-segnet", "glas", seed) for seed in (0, 1, 2)]
    ranking = Results.read(benchmark_folder(tmp_path / "out", failed=failed)).ranking()
    places = {system: ranks for system, _, ranks in ranking}
    assert places["med2d-segnet"] == (1, 4)
    assert ranking[0][0] == "encoder-residual"


def test_a_single_system_has_scores_and_no_comparison(tmp_path: Path) -> None:
    results = Results.read(benchmark_folder(tmp_path / "out", systems={"unet": 0.8}))
    assert results.comparison(GLAS) is None
    assert results.score("unet", GLAS) is not None


def test_alike_images_are_counted_by_case_of_the_unseen_data(results: Results) -> None:
    assert results.twins(ABROAD) == Twins(cases=2, learnt=1)
    assert results.twins(Task("glas", "cvc_clinicdb")) == Twins(0, 0)
    assert results.twins(GLAS) is None


def test_without_a_summary_nobody_looked_for_alike_images(tmp_path: Path) -> None:
    out = benchmark_folder(tmp_path / "out")
    (out / "summary.json").unlink()
    results = Results.read(out)
    assert results.twins(ABROAD) is None
    assert results.published == ()


def test_results_of_different_data_are_refused(tmp_path: Path) -> None:
    out = benchmark_folder(tmp_path / "out")
    path = cell(out) / "cell.json"
    path.write_text(path.read_text().replace("hash-glas", "other"))
    with pytest.raises(MedsegError, match=r"glas had the hash other .* another folder"):
        Results.read(out)


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MedsegError, match=r"holds no spec\.yaml"):
        Results.read(tmp_path)


def test_names_stay_inside_the_folder(tmp_path: Path) -> None:
    out = benchmark_folder(tmp_path / "out")
    spec = out / "spec.yaml"
    spec.write_text(spec.read_text().replace("name: unet", "name: ../../unet"))
    with pytest.raises(MedsegError, match="cannot name a folder"):
        Results.read(out)


def test_seeds_scored_on_different_cases_are_refused(tmp_path: Path) -> None:
    out = benchmark_folder(tmp_path / "out")
    table = cell(out, seed=1) / "test.csv"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(MedsegError, match="its cases are not those"):
        Results.read(out).score("unet", GLAS)


def test_an_unseen_dataset_that_failed_is_named(tmp_path: Path) -> None:
    out = benchmark_folder(tmp_path / "out")
    path = cell(out) / "cell.json"
    said = json.loads(path.read_text())
    said["unseen"]["cvc_clinicdb"] = {"status": "failed", "error": "no mask"}
    path.write_text(json.dumps(said))
    (cell(out) / "unseen" / "cvc_clinicdb.csv").unlink()
    results = Results.read(out)
    (found,) = [each for each in results.cells if each.unscored]
    assert found.unscored == {"cvc_clinicdb": "no mask"}
    score = results.score("unet", Task("glas", "cvc_clinicdb"))
    assert score is not None
    assert score.seeds == 2


def test_groups_are_compared_on_the_mean_over_seeds_of_each_case(tmp_path: Path) -> None:
    results = Results.read(benchmark_folder(tmp_path / "out", groups="fm", patients=10))
    task = Task("glas", "glas")
    (dice,) = results.equity("unet", task)
    assert (dice.attribute, dice.worst, dice.best) == ("sex", "m", "f")
    score = results.score("unet", task)
    assert score is not None
    assert dice.overall == pytest.approx(score.mean.mean)
    assert {name: (mean.n, mean.groups) for name, mean in dice.groups.items()} == {
        "f": (15, 5),
        "m": (15, 5),
    }


def test_groups_that_differ_between_tables_are_refused(tmp_path: Path) -> None:
    out = benchmark_folder(tmp_path / "out", groups="fm")
    path = out / "cells" / "unet" / "glas" / "seed-1" / "test.csv"
    text = path.read_text(encoding="utf-8").replace(",f\n", ",x\n")
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="Name the same groups in all tables"):
        Results.read(out).equity("unet", Task("glas", "glas"))
