from __future__ import annotations

import json
from pathlib import Path

import pytest

from commands import medseg
from data.builders import disk, save


def scores(path: Path, shift: float, cases: int = 12) -> Path:
    lines = [f"c{n},ok,{0.5 + shift + (n * 7 % 5) / 100 + n / 50}" for n in range(cases)]
    path.write_text("case,status,dice\n" + "\n".join(lines) + "\n")
    return path


def three(folder: Path) -> list[Path]:
    wobble = [scores(folder / "b.csv", 0.05), scores(folder / "c.csv", -0.1)]
    return [scores(folder / "a.csv", 0.0), *wobble]


def test_tables_of_evaluate_are_compared(tmp_path: Path) -> None:
    truth = [save(tmp_path / "truth" / f"{n}.png", disk(radius=6 + n)) for n in range(6)]
    tables = []
    for name, less in (("near", 1), ("far", 3)):
        for path in truth:
            save(tmp_path / name / path.name, disk(radius=6 + int(path.stem) - less))
        tables.append(tmp_path / f"{name}.csv")
        ran = medseg("evaluate", tmp_path / "truth", tmp_path / name, "-o", tables[-1])
        assert ran.code == 0, ran.err
    ran = medseg("compare", *tables)
    assert (ran.code, ran.err) == (0, "")
    assert "near is better than far by 0." in ran.out
    assert "p = 0.031, over 6 cases." in ran.out
    assert "HD95 (lower is better)" in medseg("compare", *tables, "--metric", "hd95").out


def test_everything_is_written(tmp_path: Path) -> None:
    outputs = [tmp_path / f"out{suffix}" for suffix in (".json", ".csv", ".md", ".html", ".svg")]
    options = [part for path in outputs for part in ("-o", path)]
    ran = medseg("compare", *three(tmp_path), "--names", "x, y,z", *options)
    assert (ran.code, ran.err) == (0, "")
    for path in outputs:
        assert f"Wrote {path}" in ran.out
        assert path.stat().st_size > 100
    data = json.loads(outputs[0].read_text(encoding="utf-8"))
    assert [system["name"] for system in data["systems"]] == ["x", "y", "z"]


def test_seeds_are_given_with_commas(tmp_path: Path) -> None:
    a, b, c = three(tmp_path)
    ran = medseg("compare", f"mine={a},{b}", f"other={c}")
    assert ran.code == 0
    assert "mine: from seed to seed (2)" in ran.out
    assert "the mean over them of each case is tested" in ran.out


def test_the_seed_of_the_resamples_can_be_chosen(tmp_path: Path) -> None:
    # Enough cases for random sign patterns.
    a = scores(tmp_path / "a.csv", 0.0, 30)
    b = tmp_path / "b.csv"
    rows = [f"c{n},{0.5 + (n * 7 % 5) / 100 + n / 50 + (n * 13 % 11 - 4) / 90}" for n in range(30)]
    b.write_text("case,dice\n" + "\n".join(rows) + "\n")
    found = []
    for seed in (1, 1, 2):
        out = tmp_path / "out.json"
        assert medseg("compare", a, b, "--seed", seed, "-o", out).code == 0
        found.append(json.loads(out.read_text(encoding="utf-8"))["pairs"])
    assert found[0] == found[1] != found[2]


def test_nothing_is_computed_where_an_output_cannot_be_written(tmp_path: Path) -> None:
    a, b, _ = three(tmp_path)
    ran = medseg("compare", a, b, "-o", "ranks.svg")
    assert (ran.code, ran.out) == (2, "")
    assert "a critical-difference plot shows three systems or more, and these are 2" in ran.message
    assert "Use .json, .csv, .md" in medseg("compare", a, b, "-o", "x.pdf").message


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a.csv"], "1 system to compare"),
        (["a.csv", "missing.csv"], "missing.csv: it cannot be read as a table (No such file"),
        (["a.csv", "."], "it is a folder"),
        (["a.csv", "b.csv", "--metric", "dcie"], "no metric 'dcie'. Did you mean 'dice'?"),
        (["a.csv", "b.csv", "--class", "cup"], "it has no column 'class'. Leave out --class"),
        (["a.csv", "short.csv"], "only in a.csv: c3, c4, c5, c6, c7 and 4 more"),
    ],
)
def test_what_cannot_be_compared_is_said_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    three(tmp_path)
    scores(tmp_path / "short.csv", 0, 3)
    monkeypatch.chdir(tmp_path)
    ran = medseg("compare", *arguments)
    assert ran.code == 2
    assert said in ran.message


def test_with_common_the_shared_cases_are_compared_and_the_others_counted(tmp_path: Path) -> None:
    ran = medseg(
        "compare", scores(tmp_path / "a.csv", 0), scores(tmp_path / "b.csv", 0.1, 5), "--common"
    )
    assert ran.code == 0
    assert "Dice (higher is better) over 5 cases" in ran.out
    assert "7 cases left out: not in all tables." in ran.out
