from __future__ import annotations

import csv
import json
import os
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from commands import left_in, medseg
from data.builders import noise, save


def rows(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "explanations.csv").open(encoding="utf-8", newline="") as file:
        return {row["case"]: row for row in csv.DictReader(file)}


def some(photos: Path, folder: Path, count: int = 2) -> Path:
    """The first of the photos, in a folder of their own."""
    folder.mkdir()
    for path in sorted((photos / "images").iterdir())[:count]:
        shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="module")
def explained(trained: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Explanations of two photos against their true masks; tests that change them copy them."""
    folder = tmp_path_factory.mktemp("explained")
    images = some(photos, folder / "in")
    ran = medseg(
        "explain", trained, images, "-o", folder / "out", "--mask", photos / "masks", "--save-maps"
    )
    assert ran.code == 0, ran.err
    assert ran.out.startswith(f"2 explanations written to {folder / 'out'}\n")
    return folder / "out"


def test_every_image_gets_a_picture_a_map_and_a_row(explained: Path) -> None:
    assert left_in(explained) == {
        "000.png", "001.png", "maps/000.npz", "maps/001.npz",
        "explanations.csv", "explanations.json", "index.html",
    }  # fmt: skip
    for name, row in rows(explained).items():
        with Image.open(explained / f"{name}.png") as picture:
            assert picture.width > 600
        with np.load(explained / "maps" / f"{name}.npz") as stored:
            assert stored["map"].shape == (24, 24)
        assert row["status"] == "ok"
        assert row["sanity_check"] in ("passed", "failed")
        for column in ("deletion", "insertion", "deletion_shuffled", "insertion_shuffled"):
            assert 0 <= float(row[column]) <= 1
        # A square of 8 x 8 of 24 x 24 pixels.
        assert float(row["truth_area"]) == pytest.approx(1 / 9, abs=1e-4)


def test_the_table_and_the_record_say_the_same(explained: Path) -> None:
    record = json.loads((explained / "explanations.json").read_text(encoding="utf-8"))
    assert record["how"]["method"] == "seg-grad-cam"
    assert record["how"]["layer"]
    assert [each["case"] for each in record["images"]] == list(rows(explained))
    for each in record["images"]:
        written = float(rows(explained)[each["case"]]["deletion"])
        assert written == pytest.approx(each["deletion"], abs=1e-6)


def test_the_page_is_whole_and_loads_nothing(explained: Path) -> None:
    found: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            found.extend(v or "" for k, v in attributes if k in ("src", "href"))

    Reader().feed((explained / "index.html").read_text(encoding="utf-8"))
    assert len(found) == 2
    assert all(each.startswith("data:image/png;base64,") for each in found)


def test_a_second_call_explains_only_what_is_new(
    trained: Path, photos: Path, explained: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(explained, tmp_path / "out")
    images = some(photos, tmp_path / "in", 3)
    before = os.stat(out / "000.png").st_mtime_ns
    options = ["--mask", photos / "masks", "--save-maps"]
    (out / "001.png").unlink()
    again = medseg("explain", trained, images, "-o", out, *options)
    assert again.out.startswith(f"2 explanations written to {out}, 1 were there already\n")
    assert os.stat(out / "000.png").st_mtime_ns == before
    assert sorted(rows(out)) == ["000", "001", "002"]


def test_explanations_made_in_another_way_are_not_mixed(
    trained: Path, photos: Path, explained: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(explained, tmp_path / "out")
    image = photos / "images" / "000.png"
    options = ["--method", "occlusion", "--steps", 2]
    refused = medseg("explain", trained, image, "-o", out, *options)
    assert refused.code == 2
    assert "--overwrite" in refused.message
    assert medseg("explain", trained, image, "-o", out, *options, "--overwrite").code == 0
    assert rows(out)["000"]["method"] == "occlusion"


def test_an_image_without_anything_to_explain_is_said_so_and_the_rest_goes_on(
    trained: Path, photos: Path, tmp_path: Path
) -> None:
    images = some(photos, tmp_path / "in", 1)
    save(images / "small.png", noise(0, (4, 4)))
    region = ["--region", "10,10,8,8"]
    ran = medseg("explain", trained, images, "-o", tmp_path / "out", *region)
    assert ran.code == 0
    assert "nothing to explain" in ran.err
    assert "beyond the image of 4 x 4 pixels" in ran.err
    assert rows(tmp_path / "out")["small"]["status"].startswith("nothing to explain")
    assert rows(tmp_path / "out")["000"]["status"] == "ok"
    assert rows(tmp_path / "out")["000"]["region_pixels"] == "64"


def test_unreadable_images_are_named_at_the_end_and_the_exit_code_is_1(
    trained: Path, photos: Path, tmp_path: Path
) -> None:
    images = some(photos, tmp_path / "in", 1)
    (images / "letter.png").write_text("Dear colleague")
    ran = medseg("explain", trained, images, "-o", tmp_path / "out")
    assert ran.code == 1
    assert "not explained" in ran.err
    assert "letter.png" in ran.err
    assert list(rows(tmp_path / "out")) == ["000"]


def test_an_image_without_a_true_mask_is_named(trained: Path, photos: Path, tmp_path: Path) -> None:
    images = some(photos, tmp_path / "in", 1)
    save(images / "new.png", np.asarray(Image.open(images / "000.png")))
    ran = medseg("explain", trained, images, "-o", tmp_path / "out", "--mask", photos)
    assert ran.code == 0
    assert f"no true mask: {images / 'new.png'}" in ran.err
    assert rows(tmp_path / "out")["new"]["truth_area"] == ""


def test_masks_of_other_images_are_refused(trained: Path, photos: Path, tmp_path: Path) -> None:
    save(tmp_path / "masks" / "other.png", noise(0, (24, 24), 1))
    ran = medseg("explain", trained, photos, "-o", tmp_path / "out", "--mask", tmp_path / "masks")
    assert ran.code == 2
    assert "masks such as 'other'" in ran.message
    assert not (tmp_path / "out").exists()


def test_layers_are_listed_without_any_image(trained: Path) -> None:
    ran = medseg("explain", trained, "--layer", "list")
    assert ran.code == 0
    assert any(line.split()[:2] == ["stem", "8"] for line in ran.out.splitlines())


def test_an_image_is_never_overwritten(trained: Path, photos: Path, tmp_path: Path) -> None:
    images = some(photos, tmp_path / "in", 1)
    whole = (images / "000.png").read_bytes()
    assert medseg("explain", trained, images, "-o", images).code == 2
    other = tmp_path / "other"
    save(other / "000.png", noise())
    assert medseg("explain", trained, images, "-o", other).code == 2
    assert (images / "000.png").read_bytes() == whole


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-o", "out"], "no image is named"),
        (["x.png"], "-o: is missing"),
        (["x.png", "-o", "out"], "x.png: there is no such image"),
        (["x.png", "-o", "out", "--at", "3"], "--at 3: is not 2 whole numbers"),
        (["x.png", "-o", "out", "--method", "ocklusion"], "Did you mean 'occlusion'"),
        (["x.png", "-o", "out", "--layer", "stemm"], "Did you mean 'stem"),
        (["x.png", "-o", "out", "--label", "cell"], "the model has no such class"),
    ],
)
def test_bad_options_are_answered_in_words(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = medseg("explain", trained, *options)
    assert ran.code == 2
    assert message in ran.message
    assert not list(tmp_path.iterdir())


def test_a_damaged_record_is_not_taken_for_an_earlier_call(
    trained: Path, explained: Path, photos: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(explained, tmp_path / "out")
    for text in ("", "[]", '{"how": {}, "images": [{}]}', '{"how": null, "images": 3}'):
        (out / "explanations.json").write_text(text)
        ran = medseg("explain", trained, photos / "images" / "000.png", "-o", out)
        assert ran.code == 2
        assert "--overwrite" in ran.message
