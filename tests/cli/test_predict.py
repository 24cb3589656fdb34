from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from commands import TINY, left_in, medseg
from data.builders import noise, save, squares
from medseg.data.io import read_image, read_mask


def folder_of_images(root: Path) -> Path:
    """Images of several sizes, formats and folders."""
    save(root / "a.png", noise(1, (20, 33)))
    save(root / "b c.jpg", noise(2, (41, 17)))
    save(root / "site" / "a.tif", noise(3, (24, 24), channels=1))
    save(root / "site" / "größe.webp", noise(4, (1, 30)))
    return root


def values(path: Path) -> NDArray[np.int32]:
    return read_mask(path).values


def test_every_image_gets_a_mask_of_its_own_size_name_and_folder(
    trained: Path, tmp_path: Path
) -> None:
    images = folder_of_images(tmp_path / "in")
    ran = medseg("predict", trained, images, "-o", tmp_path / "out")
    assert ran == (0, f"4 masks written to {tmp_path / 'out'}\n", "")
    assert left_in(tmp_path / "out") == {
        "a.png", "b c.png", "site/a.png", "site/größe.png", "predictions.json",
    }  # fmt: skip
    for path in images.rglob("*.*"):
        mask = values(tmp_path / "out" / path.relative_to(images).with_suffix(".png"))
        assert mask.shape == read_image(path).shape[:2]
        assert set(np.unique(mask).tolist()) <= {0, 255}


def test_masks_hold_the_values_of_the_training_masks(tmp_path: Path) -> None:
    data = squares(tmp_path / "data", classes=3)
    (data / "labels.json").write_text('{"background": 0, "liver": 1, "tumour": 2}')
    medseg("train", data, "-o", tmp_path / "run", *TINY)
    assert medseg("predict", tmp_path / "run", data, "-o", tmp_path / "out").code == 0
    found = {int(v) for p in (tmp_path / "out").glob("*.png") for v in np.unique(values(p))}
    assert found <= {0, 1, 2}
    note = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert note["labels"] == {"background": 0, "liver": 1, "tumour": 2}


def test_the_bundle_alone_predicts_what_its_run_predicts(
    trained: Path, photos: Path, tmp_path: Path
) -> None:
    shutil.copy(trained / "model.medseg", tmp_path / "copied.medseg")
    for model, out in ((trained, "run"), (tmp_path / "copied.medseg", "bundle")):
        assert medseg("predict", model, photos / "images", "-o", tmp_path / out).code == 0
    names = left_in(tmp_path / "run")
    assert names == left_in(tmp_path / "bundle")
    for name in names:
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "bundle" / name).read_bytes()


def test_files_folders_datasets_and_patterns_may_be_mixed(
    trained: Path, photos: Path, tmp_path: Path
) -> None:
    save(tmp_path / "more" / "x.png", noise(1))
    save(tmp_path / "single.jpg", noise(2))
    inputs = [photos, tmp_path / "more", tmp_path / "sing*", photos / "images" / "00?.png"]
    assert medseg("predict", trained, *inputs, "-o", tmp_path / "out").code == 0
    expected = {f"{i:03}.png" for i in range(20)} | {"x.png", "single.png", "predictions.json"}
    assert left_in(tmp_path / "out") == expected


def test_overlays_and_probabilities_lie_in_folders_of_their_own(
    trained: Path, tmp_path: Path
) -> None:
    images = folder_of_images(tmp_path / "in")
    options = ["--overlay", "--probabilities"]
    assert medseg("predict", trained, images, "-o", tmp_path / "out", *options).code == 0
    for name in ("a", "b c", "site/a", "site/größe"):
        mask = values(tmp_path / "out" / f"{name}.png")
        overlay = read_image(tmp_path / "out" / "overlay" / f"{name}.png")
        assert overlay.shape == (*mask.shape, 3)
        with np.load(tmp_path / "out" / "probabilities" / f"{name}.npz") as stored:
            probabilities = stored["probabilities"]
        assert probabilities.shape == (1, *mask.shape)
        clear = np.abs(probabilities[0] - 0.5) > 1e-3
        assert np.array_equal((probabilities[0] > 0.5)[clear], (mask > 0)[clear])


def test_averaging_over_flips_is_noted_and_not_mixed_with_plain_masks(
    trained: Path, photos: Path, tmp_path: Path
) -> None:
    assert medseg("predict", trained, photos, "-o", tmp_path / "tta", "--tta").code == 0
    assert json.loads((tmp_path / "tta" / "predictions.json").read_text())["tta"] is True
    refused = medseg("predict", trained, photos, "-o", tmp_path / "tta")
    assert refused.code == 2
    assert "--overwrite" in refused.err


def test_averaging_over_flips_does_not_care_how_the_image_is_turned(
    trained: Path, tmp_path: Path
) -> None:
    image = noise(1, (24, 24))
    save(tmp_path / "in" / "as it is.png", image)
    save(tmp_path / "in" / "mirrored.png", np.ascontiguousarray(image[:, ::-1]))
    options = ["--tta", "--probabilities"]
    medseg("predict", trained, tmp_path / "in", "-o", tmp_path / "out", *options)
    with (
        np.load(tmp_path / "out" / "probabilities" / "as it is.npz") as plain,
        np.load(tmp_path / "out" / "probabilities" / "mirrored.npz") as mirrored,
    ):
        turned_back = mirrored["probabilities"][..., ::-1]
        assert np.allclose(plain["probabilities"], turned_back, atol=2e-3)


def test_a_second_call_skips_what_is_done(trained: Path, tmp_path: Path) -> None:
    images = folder_of_images(tmp_path / "in")
    medseg("predict", trained, images, "-o", tmp_path / "out")
    (tmp_path / "out" / "a.png").unlink()
    save(images / "new.png", noise(9))
    kept = tmp_path / "out" / "b c.png"
    before = os.stat(kept).st_mtime_ns
    again = medseg("predict", trained, images, "-o", tmp_path / "out")
    assert again.out == f"2 masks written to {tmp_path / 'out'}, 3 were there already\n"
    assert os.stat(kept).st_mtime_ns == before


def test_overwrite_makes_the_masks_again(trained: Path, tmp_path: Path) -> None:
    images = folder_of_images(tmp_path / "in")
    medseg("predict", trained, images, "-o", tmp_path / "out")
    mask = tmp_path / "out" / "a.png"
    whole = mask.read_bytes()
    mask.write_bytes(b"damaged")
    again = medseg("predict", trained, images, "-o", tmp_path / "out", "--overwrite")
    assert again.out == f"4 masks written to {tmp_path / 'out'}\n"
    assert mask.read_bytes() == whole


def test_unreadable_images_are_named_at_the_end_and_the_rest_is_done(
    trained: Path, tmp_path: Path
) -> None:
    images = folder_of_images(tmp_path / "in")
    (images / "letter.png").write_text("Dear colleague")
    whole = (images / "a.png").read_bytes()
    (images / "half.png").write_bytes(whole[: len(whole) // 2])
    ran = medseg("predict", trained, images, "-o", tmp_path / "out", "--overlay")
    assert ran.code == 1
    assert ran.out == f"4 masks written to {tmp_path / 'out'}\n"
    failed = ran.err.splitlines()
    assert len(failed) == 2
    assert failed[0].startswith(f"not predicted: {images / 'half.png'}: cannot be decoded")
    assert failed[1].startswith(f"not predicted: {images / 'letter.png'}: is not a PNG")
    assert not {"half.png", "letter.png", "overlay/half.png"} & left_in(tmp_path / "out")


def test_masks_are_never_written_over_images(trained: Path, tmp_path: Path) -> None:
    images = folder_of_images(tmp_path / "in")
    before = (images / "a.png").read_bytes()
    refused = medseg("predict", trained, images, "-o", images, "--overwrite")
    assert refused.code == 2
    assert str(images / "a.png") in refused.err
    assert "Choose another -o" in refused.err
    assert (images / "a.png").read_bytes() == before


@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)], ids=["plain", "overwrite"])
def test_true_masks_are_neither_replaced_nor_taken_for_predictions(
    trained: Path, photos: Path, tmp_path: Path, overwrite: tuple[str, ...]
) -> None:
    data = shutil.copytree(photos, tmp_path / "data")
    before = (data / "masks" / "000.png").read_bytes()
    refused = medseg("predict", trained, data, "-o", data / "masks", *overwrite)
    assert refused.code == 2
    assert str(data / "masks" / "000.png") in refused.err
    assert "Choose another -o" in refused.err
    assert (data / "masks" / "000.png").read_bytes() == before
    assert not (data / "masks" / "predictions.json").exists()


def test_masks_of_another_model_are_not_mixed_in(
    trained: Path, photos: Path, tmp_path: Path
) -> None:
    medseg("train", photos, "-o", tmp_path / "other", *TINY)
    medseg("predict", trained, photos, "-o", tmp_path / "out")
    refused = medseg("predict", tmp_path / "other", photos, "-o", tmp_path / "out")
    assert refused.code == 2
    assert "another model" in refused.err
    assert "--overwrite" in refused.err


def test_images_that_a_dataset_cannot_tell_apart_are_refused_rather_than_left_out(
    trained: Path, photos: Path, tmp_path: Path
) -> None:
    data = shutil.copytree(photos, tmp_path / "data")
    save(data / "images" / "000.jpg", noise(1))
    for given in (data, data / "images"):
        refused = medseg("predict", trained, given, "-o", tmp_path / "out")
        assert refused.code == 2
        assert "000.jpg" in refused.err
        assert "000.png" in refused.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "named", "remedy"),
    [
        (["absent", "{photos}"], "absent: there is no such file", "medseg train"),
        (["{photos}", "{photos}"], "photos: this folder is not a run", ".medseg file"),
        (["{trained}", "absent"], "absent: there is no such image or folder", "Check the path"),
        (["{trained}", "none*.png"], "none*.png: there is no such image", "Check the path"),
        (["{trained}", "empty"], "empty: there are no images in it", "folder with images"),
        (["{trained}", "cases.csv"], "cases.csv: has no column 'image'", "must name the column"),
        (["{trained}", "{photos}", "--device", "cuda:7"], "--device cuda:7", "--device auto"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_named_and_nothing_is_written(
    arguments: list[str],
    named: str,
    remedy: str,
    trained: Path,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "cases.csv").write_text("picture\na.png\n")
    given = [text.format(trained=trained, photos=photos) for text in arguments]
    refused = medseg("predict", *given, "-o", "out")
    assert refused.code == 2
    assert refused.out == ""
    assert named in refused.err
    assert remedy in refused.err
    assert not (tmp_path / "out").exists()


def test_the_masks_do_not_depend_on_what_else_is_predicted(
    trained: Path, photos: Path, tmp_path: Path
) -> None:
    medseg("predict", trained, photos, "-o", tmp_path / "all")
    medseg("predict", trained, photos / "images" / "007.png", "-o", tmp_path / "one")
    one, among_all = (tmp_path / name / "007.png" for name in ("one", "all"))
    assert one.read_bytes() == among_all.read_bytes()
    with Image.open(one) as mask:
        assert mask.size == (24, 24)
