from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from medseg.data.layouts import open_dataset
from medseg.errors import DataError


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
        ("image,label\na.png,a_m.png\n", "no column 'mask', only: image, label"),
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
