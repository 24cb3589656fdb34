from __future__ import annotations

import json
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from medseg.data import source as source_module
from medseg.data.io import read_image, read_mask
from medseg.data.source import File
from medseg.errors import DataError, MedsegError
from medseg.inference import files as files_module
from medseg.inference.files import PredictOptions, predict_files
from medseg.inference.inputs import find_inputs
from medseg.inference.network import Model
from medseg.inference.network import load_network as load

from .builders import COLOURS, ORGANS, bundle


def save_image(path: Path, seed: int = 0, size: tuple[int, int] = (24, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
    return path


def photos(folder: Path, count: int = 4) -> Path:
    """Images of different sizes in a folder without masks."""
    for i in range(count):
        save_image(folder / f"photo{i}.png", i, (20 + i, 30 - i))
    return folder


def tree(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def pixels(path: Path) -> NDArray[np.int32]:
    return read_mask(path).values


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load(bundle(tmp_path_factory.mktemp("run") / "model.medseg"))


@pytest.fixture(scope="module")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load(bundle(tmp_path_factory.mktemp("run") / "model.medseg", seed=1))


def test_a_folder_gives_the_masks_that_its_images_give_one_by_one(
    model: Model, tmp_path: Path
) -> None:
    folder = photos(tmp_path / "photos")
    predict_files(model, [folder], tmp_path / "together")
    for path in sorted(folder.iterdir()):
        predict_files(model, [path], tmp_path / "alone")
        together = pixels(tmp_path / "together" / path.name)
        assert np.array_equal(together, pixels(tmp_path / "alone" / path.name))
        assert np.array_equal(together, model.predict(path))
        assert together.shape == read_image(path).shape[:2]


@pytest.mark.parametrize(("labels", "rgb"), [(ORGANS, False), (COLOURS, True)])
def test_files_hold_the_values_of_the_training_masks(
    tmp_path: Path, labels: dict[str, int], rgb: bool
) -> None:
    model = load(bundle(tmp_path / "m.medseg", labels, rgb=rgb))
    predict_files(model, [save_image(tmp_path / "a.png")], tmp_path / "out")
    assert set(np.unique(pixels(tmp_path / "out" / "a.png")).tolist()) == set(labels.values())


def test_masks_lie_where_the_images_lay(model: Model, tmp_path: Path) -> None:
    for name in ("a.png", "site 1/a.png", "site 1/deep/b.tif", "größe/患者.png"):
        save_image(tmp_path / "in" / name)
    report = predict_files(model, [tmp_path / "in"], tmp_path / "out")
    assert (report.written, report.failed) == (4, [])
    names = ["a.png", "größe/患者.png", "site 1/a.png", "site 1/deep/b.png"]
    assert tree(tmp_path / "out") == sorted([*names, "predictions.json"])


def test_of_a_dataset_only_the_images_are_predicted(model: Model, tmp_path: Path) -> None:
    for i in range(3):
        save_image(tmp_path / "data" / "images" / f"{i}.png", i)
        mask = np.zeros((24, 30), np.uint8)
        mask[5:9, 5:9] = 255
        (tmp_path / "data" / "masks").mkdir(exist_ok=True)
        Image.fromarray(mask).save(tmp_path / "data" / "masks" / f"{i}.png")
    predict_files(model, [tmp_path / "data"], tmp_path / "out")
    assert tree(tmp_path / "out") == ["0.png", "1.png", "2.png", "predictions.json"]


def test_masks_that_are_there_are_not_made_again(model: Model, tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos")
    predict_files(model, [folder], tmp_path / "out")
    (tmp_path / "out" / "photo1.png").write_bytes(b"touched by hand")
    (tmp_path / "out" / "photo2.png").unlink()
    report = predict_files(model, [folder], tmp_path / "out")
    assert (report.written, report.skipped) == (1, 3)
    assert (tmp_path / "out" / "photo1.png").read_bytes() == b"touched by hand"
    assert (tmp_path / "out" / "photo2.png").is_file()


def test_overwriting_makes_every_mask_again(
    model: Model, other_model: Model, tmp_path: Path
) -> None:
    folder = photos(tmp_path / "photos")
    predict_files(model, [folder], tmp_path / "out")
    report = predict_files(other_model, [folder], tmp_path / "out", overwrite=True)
    assert (report.written, report.skipped) == (4, 0)
    mask = pixels(tmp_path / "out" / "photo1.png")
    assert np.array_equal(mask, other_model.predict(folder / "photo1.png"))


def test_what_is_asked_for_later_is_added(model: Model, tmp_path: Path) -> None:
    path = save_image(tmp_path / "a.png")
    predict_files(model, [path], tmp_path / "out")
    options = PredictOptions(overlay=True, probabilities=True)
    assert predict_files(model, [path], tmp_path / "out", options=options).written == 1
    assert predict_files(model, [path], tmp_path / "out", options=options).skipped == 1
    assert read_image(tmp_path / "out" / "overlay" / "a.png").shape == (24, 30, 3)
    with np.load(tmp_path / "out" / "probabilities" / "a.npz") as stored:
        expected = model.predict_probabilities(path)
        assert np.allclose(stored["probabilities"], expected, atol=1e-3)


def test_masks_of_another_model_are_not_mixed_in(
    model: Model, other_model: Model, tmp_path: Path
) -> None:
    folder = photos(tmp_path / "photos")
    predict_files(model, [folder], tmp_path / "out")
    before = {name: (tmp_path / "out" / name).read_bytes() for name in tree(tmp_path / "out")}
    with pytest.raises(MedsegError, match="masks of another model"):
        predict_files(other_model, [folder], tmp_path / "out")
    with pytest.raises(MedsegError, match="other options"):
        predict_files(model, [folder], tmp_path / "out", options=PredictOptions(tta=True))
    after = {name: (tmp_path / "out" / name).read_bytes() for name in tree(tmp_path / "out")}
    assert after == before


def test_a_damaged_note_of_the_model_is_not_trusted(model: Model, tmp_path: Path) -> None:
    path = save_image(tmp_path / "a.png")
    predict_files(model, [path], tmp_path / "out")
    (tmp_path / "out" / "predictions.json").write_text("{")
    with pytest.raises(MedsegError, match="--overwrite"):
        predict_files(model, [path], tmp_path / "out")


def test_the_folder_says_which_model_filled_it_and_what_values_mean(tmp_path: Path) -> None:
    model = load(bundle(tmp_path / "m.medseg", COLOURS, rgb=True))
    predict_files(model, [save_image(tmp_path / "a.png")], tmp_path / "out")
    note = json.loads((tmp_path / "out" / "predictions.json").read_text(encoding="utf-8"))
    assert note["model"] == model.manifest.weights_sha256
    assert note["labels"] == {"background": "#000000", "tumour": "#ff8000", "stroma": "#0000ff"}


def test_unreadable_images_are_reported_and_the_others_done(model: Model, tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos")
    (folder / "empty.png").write_bytes(b"")
    whole = (folder / "photo0.png").read_bytes()
    (folder / "half.png").write_bytes(whole[: len(whole) // 2])
    report = predict_files(model, [folder], tmp_path / "out")
    assert report.written == 4
    assert [source.path.name for source, _ in report.failed] == ["empty.png", "half.png"]
    assert all(reason for _, reason in report.failed)
    assert tree(tmp_path / "out") == [*(f"photo{i}.png" for i in range(4)), "predictions.json"]


def test_two_images_for_one_mask_are_refused_before_anything_is_written(
    model: Model, tmp_path: Path
) -> None:
    save_image(tmp_path / "in" / "a.png")
    save_image(tmp_path / "in" / "a.tif")
    with pytest.raises(DataError, match="same name"):
        predict_files(model, [tmp_path / "in"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_image_named_twice_is_predicted_once(model: Model, tmp_path: Path) -> None:
    path = save_image(tmp_path / "in" / "a.png")
    assert find_inputs([path, tmp_path / "in", path]) == {"a": File(path)}


def test_a_pattern_takes_the_images_it_matches(tmp_path: Path) -> None:
    for name in ("a1.png", "a2.png", "b.png"):
        save_image(tmp_path / name)
    (tmp_path / "a3.txt").write_text("no image")
    assert list(find_inputs([tmp_path / "a*"])) == ["a1", "a2"]


def test_a_name_that_looks_like_a_pattern_is_taken_as_it_is(tmp_path: Path) -> None:
    path = save_image(tmp_path / "a[1].png")
    assert find_inputs([path]) == {"a[1]": File(path)}


def test_hidden_files_are_no_images(tmp_path: Path) -> None:
    save_image(tmp_path / "in" / "a.png")
    save_image(tmp_path / "in" / "._a.png")
    assert list(find_inputs([tmp_path / "in"])) == ["a"]


@pytest.mark.parametrize("item", ["none.png", "*.png", "empty", "notes*"])
def test_an_input_without_images_is_an_error_naming_it(tmp_path: Path, item: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(DataError) as caught:
        find_inputs([tmp_path / item])
    assert item in str(caught.value)


def test_a_manifest_that_cannot_be_read_is_an_error_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "cases.csv").write_text("picture\na.png\n")
    with pytest.raises(DataError, match="column"):
        find_inputs([tmp_path / "cases.csv"])


def test_a_file_in_place_of_the_output_folder_is_an_error(model: Model, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(MedsegError, match="could not be written"):
        predict_files(model, [save_image(tmp_path / "a.png")], tmp_path / "out")


def test_masks_inside_the_input_folder_are_not_predicted_later(
    model: Model, tmp_path: Path
) -> None:
    folder = photos(tmp_path / "photos")
    predict_files(model, [folder], folder / "out")
    report = predict_files(model, [folder], folder / "out")
    assert (report.written, report.skipped) == (0, 4)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_mask_never_takes_the_place_of_an_image(
    model: Model, tmp_path: Path, overwrite: bool
) -> None:
    path = save_image(tmp_path / "a.png")
    before = path.read_bytes()
    for inputs in ([path], [tmp_path]):
        with pytest.raises(DataError, match=r"a\.png: its mask would replace it"):
            predict_files(model, inputs, tmp_path, overwrite=overwrite)
    assert path.read_bytes() == before
    assert tree(tmp_path) == ["a.png"]


def test_masks_may_lie_beside_images_of_another_format(model: Model, tmp_path: Path) -> None:
    path = save_image(tmp_path / "a.tif")
    predict_files(model, [path], tmp_path)
    assert tree(tmp_path) == ["a.png", "a.tif", "predictions.json"]


def test_progress_counts_every_input_once(model: Model, tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos")
    (folder / "empty.png").write_bytes(b"")
    predict_files(model, [folder / "photo0.png"], tmp_path / "out")
    seen: list[tuple[int, int]] = []
    predict_files(
        model, [folder], tmp_path / "out", progress=lambda done, total: seen.append((done, total))
    )
    assert seen[0] == (1, 5)
    assert seen[-1] == (5, 5)
    assert seen == sorted(seen)


def test_the_images_in_memory_do_not_grow_with_their_number(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = photos(tmp_path / "photos", 10)
    for i in range(4):
        for path in photos(tmp_path / "photos", 10).glob("photo?.png"):
            (folder / f"{i}{path.name}").write_bytes(path.read_bytes())
    alive: set[int] = set()
    most = 0
    write = files_module._write

    def counted(path: Path, **options: Any) -> NDArray[np.uint8]:
        nonlocal most
        image = read_image(path, **options)
        number = id(path)
        alive.add(number)
        weakref.finalize(image, alive.discard, number)
        most = max(most, len(alive))
        return image

    def slow_write(*args: Any) -> None:
        time.sleep(0.005)
        write(*args)

    monkeypatch.setattr(source_module, "read_image", counted)
    monkeypatch.setattr(files_module, "_write", slow_write)
    report = predict_files(model, [folder], tmp_path / "out")
    assert report.written == 50
    assert most <= 16
