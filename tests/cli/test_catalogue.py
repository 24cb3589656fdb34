from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from commands import TINY, medseg, parts_of
from data.builders import disk, noise, save
from medseg.data import catalogue
from medseg.data.catalogue.entry import PublishedSplit


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder without datasets, and an empty registry."""
    monkeypatch.setenv("MEDSEG_HOME", str(tmp_path / "home"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def polyps(root: Path, count: int = 4) -> Path:
    for i in range(count):
        save(root / "images" / f"cju{i}.png", noise(i))
        save(root / "masks" / f"cju{i}.png", disk(radius=4 + i % 3))
    return root


@pytest.fixture
def tiny_kvasir(monkeypatch: pytest.MonkeyPatch) -> None:
    """A catalogue whose kvasir-seg was published with four small images."""
    entry = dataclasses.replace(
        catalogue.load_entry("kvasir-seg"), images=4, widths=None, heights=None, split=None
    )
    monkeypatch.setattr(catalogue, "load_entry", lambda name: entry)


def test_the_catalogue_lists_every_set_once() -> None:
    listed = medseg("data", "catalogue", "list")
    assert (listed.code, listed.err) == (0, "")
    first = [line.split()[0] for line in listed.out.splitlines() if line.strip()]
    assert [word for word in first if word in catalogue.names()] == list(catalogue.names())
    assert medseg("data", "catalogue").out == listed.out


def test_the_list_can_be_narrowed() -> None:
    listed = medseg("data", "catalogue", "list", "--modality", "ultrasound", "--organ", "breast")
    assert "busi" in listed.out
    assert "drive" not in listed.out
    assert "2 datasets, 0 registered here" in listed.out


def test_a_filter_that_nothing_passes_is_answered_with_what_there_is() -> None:
    refused = medseg("data", "catalogue", "list", "--organ", "elbow")
    assert refused.code == 2
    assert "--organ elbow: no dataset of the catalogue has it" in refused.err
    assert "retina" in refused.err


def test_json_is_the_whole_entry() -> None:
    listed = json.loads(medseg("data", "catalogue", "list", "--json").out)
    assert [entry["name"] for entry in listed] == list(catalogue.names())
    shown = json.loads(medseg("data", "catalogue", "show", "drive", "--json").out)
    assert shown == next(entry for entry in listed if entry["name"] == "drive")
    assert shown["split"]["parts"] == {"train": 20, "test": 20}
    assert shown["registered"] is None


@pytest.mark.parametrize("name", catalogue.names())
def test_everything_known_of_a_set_can_be_read(name: str) -> None:
    shown = medseg("data", "catalogue", "show", name)
    entry = catalogue.load_entry(name)
    assert (shown.code, shown.err) == (0, "")
    for text in (entry.title, entry.licence, entry.citation.link, entry.url, *entry.steps):
        assert text in shown.out
    for text in (*entry.notes, *entry.unverified):
        assert text in shown.out


def test_unverified_facts_are_marked() -> None:
    assert "licence     CC0 (unverified)" in medseg("data", "catalogue", "show", "dsb2018").out
    line = next(
        line
        for line in medseg("data", "catalogue", "list").out.splitlines()
        if line.split()[:1] == ["dsb2018"]
    )
    assert "670 ?" in line
    assert "CC0 ?" in line


def test_a_whole_copy_is_registered_and_marked(tiny_kvasir: None, tmp_path: Path) -> None:
    data = polyps(tmp_path / "data")
    added = medseg("data", "add", "kvasir-seg", data)
    assert added.code == 0
    assert f"registered kvasir-seg: {data}" in added.out
    assert "licence    research and education" in added.out
    assert str(data) in medseg("data", "catalogue", "show", "kvasir-seg").out


def test_a_partial_copy_is_refused_with_every_difference(tmp_path: Path) -> None:
    data = polyps(tmp_path / "data")
    save(data / "masks" / "cju2.png", disk((8, 8)))
    refused = medseg("data", "add", "kvasir-seg", data)
    assert refused.code == 2
    assert f"{data}: differs from the published Kvasir-SEG" in refused.err
    for difference in (
        "partial copy: 4 of 1000 images",
        "problems: 1 error (size-mismatch), first: ",
        f"medseg data add kvasir-seg {data} --force",
    ):
        assert difference in refused.message
    assert medseg("info", "kvasir-seg").code == 2


def test_a_partial_copy_can_be_forced_and_says_so_ever_after(tmp_path: Path) -> None:
    data = polyps(tmp_path / "data")
    assert "partial copy: 4 of 1000 images" in medseg(
        "data", "add", "kvasir-seg", data, "--force"
    ).out  # fmt: skip
    assert "partial copy: 4 of 1000 images" in medseg("info", "kvasir-seg").out
    assert "partial copy: 4 of 1000 images" in medseg("data", "check", "kvasir-seg").out
    assert "partial copy: 4 of 1000 images" in medseg("data", "catalogue", "show", "kvasir-seg").out


def test_an_own_dataset_gets_a_name_without_being_compared(photos: Path) -> None:
    added = medseg("data", "add", "kvasir-sec", photos)
    assert added.code == 0
    assert "not in the catalogue, so nothing was compared. Did you mean 'kvasir-seg'?" in added.out
    assert f"kvasir-sec: your own, in {photos}" in medseg("data", "catalogue").out
    assert medseg("data", "check", "kvasir-sec").code == 0


def test_a_relative_folder_is_found_from_elsewhere(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    polyps(here / "data")
    medseg("data", "add", "mine", Path("..", "here", "data"))
    monkeypatch.chdir(here.parent)
    assert "cases           4" in medseg("info", "mine").out


def test_a_dataset_is_trained_predicted_and_scored_by_name(photos: Path, here: Path) -> None:
    medseg("data", "add", "mine", photos, "--group-pattern", r"\d$")
    trained = medseg("train", "mine", *TINY)
    assert trained.code == 0, trained.err
    run = here / "runs" / "mine-med2d-segnet"
    assert "medseg evaluate mine runs/mine-med2d-segnet" in trained.out
    patients = {part: {case[-1] for case in cases} for part, cases in parts_of(run).items()}
    assert patients["train"].isdisjoint(patients["val"] | patients["test"])
    assert medseg("predict", run, "mine", "-o", here / "masks").code == 0
    assert len(list((here / "masks").glob("*.png"))) == 20
    assert medseg("evaluate", "mine", here / "masks").code == 0
    assert medseg("evaluate", "mine", run).code == 0


def test_scores_of_a_partial_copy_say_so(tmp_path: Path) -> None:
    data = polyps(tmp_path / "data")
    medseg("data", "add", "kvasir-seg", data, "--force")
    scored = medseg("evaluate", "kvasir-seg", data / "masks", "-o", tmp_path / "report.html")
    assert "against kvasir-seg (partial copy: 4 of 1000 images" in scored.out
    report = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "partial copy: 4 of 1000 images" in report


def test_a_published_split_is_trained_on_by_name(
    photos: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = PublishedSplit(
        rule="by number",
        parts={"train": 12, "test": 8},
        patterns={"train": r"^00|^01[01]", "test": r"^01[2-9]"},
    )
    entry = dataclasses.replace(
        catalogue.load_entry("kvasir-seg"), images=20, widths=None, heights=None, split=split,
    )  # fmt: skip
    monkeypatch.setattr(catalogue, "load_entry", lambda name: entry)
    assert medseg("data", "add", "kvasir-seg", photos).code == 0
    trained = medseg("train", "kvasir-seg", *TINY, "-o", here / "run")
    assert trained.code == 0, trained.err
    assert parts_of(here / "run")["test"] == {f"{number:03}" for number in range(12, 20)}


def test_a_moved_folder_is_called_that(tmp_path: Path) -> None:
    medseg("data", "add", "mine", polyps(tmp_path / "data"))
    shutil.move(tmp_path / "data", tmp_path / "elsewhere")
    refused = medseg("train", "mine")
    assert refused.code == 2
    assert "which does not exist any more" in refused.err
    assert "medseg data add mine NEW_FOLDER" in refused.err
    medseg("data", "add", "mine", tmp_path / "elsewhere")
    assert medseg("info", "mine").code == 0


def test_a_name_can_be_forgotten(tmp_path: Path) -> None:
    data = polyps(tmp_path / "data")
    medseg("data", "add", "mine", data)
    forgotten = medseg("data", "remove", "mine")
    assert forgotten == (0, f"mine is forgotten; its files in {data} are untouched\n", "")
    assert medseg("info", "mine").code == 2
    assert medseg("info", data).code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["kvasir-seg", "nowhere"], "nowhere: does not exist"),
        (["a/b", "."], "name 'a/b': cannot be used"),
        (["mine", "."], "is not a dataset that medseg knows: the folder is empty"),
        (["kvasir-seg", "."], "medseg data catalogue show kvasir-seg"),
        (["kvasir-seg", ".", "--layout", "nope"], "there is no 'nope'"),
    ],
    ids=str,
)
def test_what_cannot_be_added_is_refused_by_name(arguments: list[str], said: str) -> None:
    refused = medseg("data", "add", *arguments)
    assert refused.code == 2
    assert said in refused.message
    assert not Path("../home").exists()


def test_a_damaged_registry_is_named(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "datasets.json").write_text("{")
    for arguments in (["info", "mine"], ["data", "catalogue"], ["data", "remove", "mine"]):
        refused = medseg(*arguments)
        assert refused.code == 2
        assert "datasets.json: is damaged" in refused.message
