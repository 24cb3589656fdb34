from __future__ import annotations

import unicodedata
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.data.layouts import open_dataset
from medseg.errors import DataError

from ..builders import disk, noise, save


def manifest(root: Path, text: str, *, bom: bool = False) -> Path:
    """A manifest beside a.png, b.png, c.png and their masks."""
    for stem in "abc":
        (root / f"{stem}.png").touch()
        (root / f"{stem}_m.png").touch()
    path = root / "manifest.csv"
    path.write_text(text, encoding="utf-8-sig" if bom else "utf-8")
    return path


@pytest.mark.parametrize("separator", [",", ";"])
@pytest.mark.parametrize("bom", [False, True])
def test_a_manifest_is_read_by_folder_and_by_file(
    tmp_path: Path, separator: str, bom: bool
) -> None:
    text = (
        "image,mask,patient,split,sex\n"
        "b.png,b_m.png,p2,Validation,f\n"
        "\n"
        "a.png,a_m.png,p1,train,m\n"
        "c.png,,,test,\n"
    ).replace(",", separator)
    path = manifest(tmp_path, text, bom=bom)
    found = open_dataset(tmp_path)
    assert found.cases == open_dataset(path).cases
    assert [case.id for case in found.cases] == ["a", "b", "c"]
    assert [case.split for case in found.cases] == ["train", "val", "test"]
    assert [case.patient for case in found.cases] == ["p1", "p2", None]
    assert found.cases[0].attributes == {"sex": "m"}
    assert found.cases[2].mask is None
    assert (found.layout, found.problems) == ("manifest", ())


def test_an_id_column_names_the_cases(tmp_path: Path) -> None:
    path = manifest(tmp_path, "id,image,mask\nfirst,a.png,a_m.png\n")
    assert [case.id for case in open_dataset(path).cases] == ["first"]


def test_every_bad_row_is_reported_with_its_line(tmp_path: Path) -> None:
    text = (
        "image,mask,split,id\n"
        "a.png,a_m.png,train,\n"
        "a.png,b_m.png,train,\n"
        "absent.png,b_m.png,,\n"
        "b.png,absent.png,,\n"
        "b.png,b_m.png,holdout,\n"
        ",b_m.png,,\n"
        "c.png,c_m.png,,a\n"
    )
    found = open_dataset(manifest(tmp_path, text))
    lines = {int(problem.where.split("line ")[1]): problem.kind for problem in found.problems}
    assert lines == {
        3: "duplicate-row",
        4: "missing-file",
        5: "missing-file",
        6: "unknown-split",
        7: "manifest-row",
        8: "duplicate-row",
    }
    assert {problem.severity for problem in found.problems} == {"error"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no column 'image'"),
        ("scan,mask\na.png,a_m.png\n", "no column 'image', only: scan, mask"),
        ("image\n|\n", "none of its 1 rows .* names no image"),
        ("image\n" + "x" * 200_000 + "\n", "is not CSV: line 2"),
        ("image,mask,mask\n", "'mask' occurs twice"),
        ("image,mask\na.png,a_m.png,x\n", "line 2 has 3 cells"),
        ("image,mask\nz.png,z_m.png\n", "none of its 1 rows .* z.png does not exist"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_explained(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        open_dataset(manifest(tmp_path, text))


def test_a_manifest_in_another_encoding_is_explained(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_bytes("image,mask\nMüller.png,m.png\n".encode("latin-1"))
    with pytest.raises(DataError, match="UTF-8"):
        open_dataset(tmp_path)


def test_names_match_across_unicode_forms(tmp_path: Path) -> None:
    (tmp_path / unicodedata.normalize("NFD", "é.png")).touch()
    path = manifest(tmp_path, f"image,mask\n{unicodedata.normalize('NFC', 'é')}.png,a_m.png\n")
    assert [case.id for case in open_dataset(path).cases] == [unicodedata.normalize("NFC", "é")]


def test_labels_json_beside_the_manifest_is_read(tmp_path: Path) -> None:
    path = manifest(tmp_path, "image,mask\na.png,a_m.png\n")
    (tmp_path / "labels.json").write_text('{"background": 0, "cell": 1}')
    labels = open_dataset(path).labels
    assert labels is not None
    assert labels.values == (0, 1)


def test_without_a_mask_column_all_cases_are_unlabelled(tmp_path: Path) -> None:
    found = open_dataset(manifest(tmp_path, "image,patient\na.png,p\nb.png,q\n"))
    assert [case.mask for case in found.cases] == [None, None]
    assert found.problems == ()


def test_a_cell_may_name_the_channels_of_an_image_and_masks_that_are_united(tmp_path: Path) -> None:
    for index, name in enumerate(("a", "b")):
        save(tmp_path / f"{name}.png", noise(index, channels=1))
    mask = disk(radius=5)
    save(tmp_path / "left.png", np.where(np.arange(20) < 10, mask, 0))
    save(tmp_path / "right.png", np.where(np.arange(20) < 10, 0, mask))
    (tmp_path / "manifest.csv").write_text("image,mask\na.png|b.png,left.png | right.png\n")
    (case,) = open_dataset(tmp_path).cases
    assert case.id == "a"
    assert case.image.read_image().shape == (16, 20, 2)
    assert case.mask is not None
    assert np.array_equal(case.mask.read_mask().values, mask)


def test_a_name_that_holds_the_separator_is_one_file(tmp_path: Path) -> None:
    (tmp_path / "x|y.png").touch()
    (case,) = open_dataset(manifest(tmp_path, "image\nx|y.png\n")).cases
    assert case.image.path.name == "x|y.png"


@pytest.mark.parametrize(
    ("name", "case_id"), [("a:b.png", "a_b"), ("x/../c d.png", "x/c d"), ("./e.f.png", "e.f")]
)
def test_an_id_is_made_of_any_name(tmp_path: Path, name: str, case_id: str) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / name).touch()
    (case,) = open_dataset(manifest(tmp_path, f"image\n{name}\n")).cases
    assert case.id == case_id


@pytest.mark.parametrize("column", ["field_of_view", "FOV"])
def test_a_field_of_view_is_read(tmp_path: Path, column: str) -> None:
    path = manifest(tmp_path, f"image,mask,{column}\na.png,a_m.png,c.png\nb.png,b_m.png,\n")
    first, second = open_dataset(path).cases
    assert first.field_of_view is not None
    assert first.field_of_view.path.name == "c.png"
    assert second.field_of_view is None
    assert first.attributes == {}


def test_all_absent_files_are_named_at_once(tmp_path: Path) -> None:
    path = manifest(tmp_path, "image,mask,fov\na.png,,\nx.png|b.png|y.png,z.png,w.png\n")
    found = open_dataset(path)
    assert [problem.kind for problem in found.problems] == ["missing-file"] * 4
    assert {problem.found.split()[-4] for problem in found.problems} == {
        "x.png",
        "y.png",
        "z.png",
        "w.png",
    }


def test_gandlf_columns_are_understood(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        save(tmp_path / name, noise(channels=1))
    path = manifest(
        tmp_path, "SubjectID,Channel_1,Channel_0,Label,Age\np7,b.png,a.png,a_m.png,61\n"
    )
    (case,) = open_dataset(path).cases
    assert (case.id, case.patient, case.attributes) == ("p7", "p7", {"age": "61"})
    assert [file.name for file in case.image.files] == ["a.png", "b.png"]
    assert case.mask is not None


def test_a_subject_in_several_rows_is_a_patient_and_no_id(tmp_path: Path) -> None:
    path = manifest(tmp_path, "SubjectID,Channel_0\np,a.png\np,b.png\nq,c.png\n")
    assert {case.id: case.patient for case in open_dataset(path).cases} == {
        "a": "p",
        "b": "p",
        "c": "q",
    }


def test_other_column_names_and_a_pandas_index_are_understood(tmp_path: Path) -> None:
    path = manifest(tmp_path, ",img_path,mask_path,patient_id,subset\n0,a.png,a_m.png,p,valid\n")
    (case,) = open_dataset(path).cases
    assert (case.id, case.patient, case.split, case.attributes) == ("a", "p", "val", {})
    assert case.mask is not None


def test_the_own_name_of_a_column_wins_over_other_tools_names(tmp_path: Path) -> None:
    path = manifest(tmp_path, "image,mask,patient,subject_id\na.png,a_m.png,p,s\n")
    (case,) = open_dataset(path).cases
    assert (case.patient, case.attributes) == ("p", {"subject_id": "s"})


@pytest.mark.parametrize(("cell", "labelled"), [("a_m.png", True), ("benign", False)])
def test_a_label_column_is_the_mask_only_when_it_names_files(
    tmp_path: Path, cell: str, labelled: bool
) -> None:
    (case,) = open_dataset(manifest(tmp_path, f"image,label\na.png,{cell}\n")).cases
    assert (case.mask is not None) == labelled
    assert case.attributes == ({} if labelled else {"label": cell})


COLUMNS = ("image", "mask", "label", "id", "split", "Channel_0", "SubjectID", "fov", "x", "")
CELLS = ("a.png", "a_m.png", "a.png|b.png", "../x", "/", "|", "train", '"', "\0", "x" * 300, "")


# Files are written and read: a busy machine may take long.
@settings(deadline=None, max_examples=60)
@given(
    columns=st.lists(st.sampled_from(COLUMNS) | st.text(max_size=2), max_size=5),
    rows=st.lists(st.lists(st.sampled_from(CELLS) | st.text(max_size=3), max_size=5), max_size=3),
)
def test_whatever_a_manifest_holds_is_read_or_explained(
    tmp_path_factory: pytest.TempPathFactory, columns: list[str], rows: list[list[str]]
) -> None:
    folder = tmp_path_factory.getbasetemp() / "fuzzed-manifest"
    folder.mkdir(exist_ok=True)
    path = manifest(folder, "")
    text = "\n".join(",".join(cells) for cells in (columns, *rows))
    path.write_bytes(text.encode("utf-8", "replace"))
    with suppress(DataError):
        open_dataset(path)
