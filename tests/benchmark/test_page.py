import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmark.synthetic import benchmark_folder
from medseg.benchmark.figures import all_figures
from medseg.benchmark.page import render, write_report
from medseg.benchmark.reading import Results, Task
from medseg.benchmark.tables import all_tables
from medseg.errors import MedsegError
from report.test_html import Page

NASTY = "<script>alert('x')</script>"


def shown(out: Path, *, figures: bool = False) -> Page:
    results = Results.read(out)
    drawn = all_figures(results) if figures else []
    return Page(render(results, all_tables(results), drawn))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return benchmark_folder(
        tmp_path_factory.mktemp("small") / "out",
        systems={"unet": 0.8, "med2d-segnet": 0.85},
        data=["glas"],
        seeds=[0],
        cases=4,
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    out = benchmark_folder(
        tmp_path_factory.mktemp("bench") / "out",
        failed=[("unet", "glas", 1)],
        missing=[("unet", "dsb2018", 2)],
        cases=8,
    )
    return shown(out, figures=True)


def test_the_page_loads_nothing(page: Page) -> None:
    assert page.loads
    assert all(link.startswith(("#", "data:")) for link in page.loads)
    assert "script" not in page.count


def test_ids_of_all_figures_differ(page: Page) -> None:
    assert len(page.ids) == len(set(page.ids))
    assert page.count["svg"] >= 6


def test_what_failed_is_said_before_any_number(page: Page) -> None:
    head = page.shown[: page.shown.index("Ranking")]
    assert "24 trainings, 1 failed, 1 not run" in head
    assert "The grid is not complete" in head
    assert "Scored on fewer seeds than the others: unet on dsb2018, unet on glas" in head


def test_images_trained_on_are_warned_of(page: Page) -> None:
    assert "scores on cvc_clinicdb are too good" in page.shown


def test_protocol_hashes_and_command_are_there(page: Page) -> None:
    for text in ("data.image_size=64", "hash-dsb2018", "medseg benchmark out/spec.yaml -o out"):
        assert text in page.shown


def test_text_of_results_is_no_html(small: Path, tmp_path: Path) -> None:
    out = benchmark_folder(tmp_path / "out", systems={"unet": 0.8}, data=["glas"], cases=4)
    path = out / "cells/unet/glas/seed-0/cell.json"
    said = json.loads(path.read_text()) | {"status": "failed", "error": NASTY}
    path.write_text(json.dumps(said))
    page = shown(out)
    assert "script" not in page.count
    assert NASTY in page.shown


def test_a_grid_without_any_result_has_a_page(tmp_path: Path) -> None:
    out = benchmark_folder(tmp_path / "out", systems={"unet": 0.8}, data=["glas"], seeds=[0],
                           failed=[("unet", "glas", 0)], efficiency=False)  # fmt: skip
    page = shown(out, figures=True)
    assert "1 training, 1 failed" in page.shown
    assert "Not drawn" in page.shown


def test_one_seed_is_said_to_be_one(small: Path) -> None:
    assert "nothing is known of how much another training would differ" in shown(small).shown


def test_the_report_is_a_page_with_tables_and_figures(small: Path) -> None:
    path = write_report(small)
    folder = path.parent
    assert path.name == "index.html"
    assert {file.suffix for file in (folder / "tables").iterdir()} == {".md", ".csv", ".tex"}
    pictures = {file.name for file in (folder / "figures").iterdir()}
    assert {"spider.png", "spider.svg", "zero-shot.png", "zero-shot.svg"} <= pictures


def test_what_an_earlier_report_drew_is_deleted(small: Path) -> None:
    write_report(small)
    stale = [small / "report" / name for name in ("figures/old.svg", "tables/old.csv")]
    notes = small / "report" / "figures" / "notes.txt"
    for path in (*stale, notes):
        path.write_text("before")
    kept = set((small / "report").rglob("*.*")) - set(stale)
    write_report(small)
    assert set((small / "report").rglob("*.*")) == kept
    notes.unlink()


def test_data_of_other_classes_are_said_once(tmp_path: Path) -> None:
    out = benchmark_folder(tmp_path / "out", systems={"unet": 0.8}, data=["glas"], cases=4)
    summary = json.loads((out / "summary.json").read_text())
    reason = "glas has the classes a, b, and cvc_clinicdb a"
    summary["unseen"] = {"cvc_clinicdb": {"misfits": {"glas": reason}}}
    (out / "summary.json").write_text(json.dumps(summary))
    for seed in (0, 1, 2):
        path = out / f"cells/unet/glas/seed-{seed}/cell.json"
        said = json.loads(path.read_text())
        said["unseen"] = {"cvc_clinicdb": {"status": "failed", "error": "other classes"}}
        path.write_text(json.dumps(said))
    text = shown(out).shown
    assert text.count(reason) == 1
    assert "other classes" not in text
    # Scores of an earlier version, which did not look at classes.
    assert Results.read(out).tasks == (Task("glas", "glas"),)


FILES = ("spec.yaml", "summary.json", "efficiency/unet.json", "cells/unet/glas/seed-0/cell.json",
         "cells/unet/glas/seed-0/metrics.jsonl", "cells/unet/glas/seed-0/test.csv")  # fmt: skip
WRONG = (
    b"", b"\x00\xff", b"[1]", b"{}", b'"text"', b"{\n", b'{"published": 1}', b'{"overlaps": 2}',
    b'{"unseen": [1], "data": 3, "status": "ok"}', b"systems: [1]\ndata: [2]",
    b"systems: [{name: a}]\ndata: [{name: b}]\nseeds: x", b'{"parameters": "many"}',
    b"systems: [{name: a}]\ndata: [{name: b}]\nseeds: [1]\nset: 4",
    b"systems: [{name: a}]\ndata: [{name: b}]\nseeds: [1]\nunseen: 3",
    b'{"published": {"source": "s", "protocol": "p", "entries": [3]}}', b'{"val_dice": NaN}',
    b'{"data": {"glas": {"cases": 3}}, "protocol": [1], "unseen": {"cvc_clinicdb": 4}}',
    b'{"status": "ok", "data_hash": 3, "epochs": 2.5}', b'{"onnx_note": [3]}',
    b'{"unseen": {"cvc_clinicdb": {"misfits": [1]}}}',
)  # fmt: skip


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(name=st.sampled_from(FILES), content=st.sampled_from(WRONG) | st.binary(max_size=40))
def test_a_damaged_file_is_refused_by_name_or_does_no_harm(
    small: Path, name: str, content: bytes
) -> None:
    path = small / name
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        said = refusal(small)
    finally:
        path.write_bytes(before)
    assert said == "" or path.name in said or path.parent.name in said


def refusal(out: Path) -> str:
    """The error that a folder gives; empty when its page can be made."""
    try:
        shown(out)
    except MedsegError as error:
        return str(error)
    return ""


def test_groups_of_patients_have_a_section(small: Path, tmp_path: Path) -> None:
    assert "Groups of patients" not in shown(small).shown
    out = benchmark_folder(tmp_path / "out", data=["glas"], seeds=[0], groups="fm")
    assert "Groups of patients" in shown(out).shown
