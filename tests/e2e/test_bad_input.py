"""What a stranger feeds the command line: each is answered in words, and leaves nothing behind.

`commands.medseg` raises whatever would reach the user as a traceback, so every test here also
proves that there is none.
"""

from __future__ import annotations

import os
import pickle
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from commands import TINY, Result, left_in, medseg
from data.builders import disk, noise, png_bomb, save, squares
from medseg.data.io import read_image, read_mask
from medseg.engine import loop as loop_module

SIZE = (24, 24)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six good cases, for a test to spoil."""
    return squares(tmp_path / "data", 6)


def train(data: Path, *options: object) -> Result:
    """Train into ``run`` beside ``data``."""
    return medseg("train", data, "-o", data.parent / "run", *TINY, *options)


def assert_refused(result: Result, *said: object) -> None:
    assert result.code == 2
    assert result.out == ""
    assert "error: " in result.err
    for text in said:
        assert str(text) in result.err


def assert_nothing_left(folder: Path) -> None:
    assert not (folder / "run").exists()
    assert not [name for name in left_in(folder) if ".part" in name]


def empty(data: Path) -> tuple[Path, str, str]:
    shutil.rmtree(data)
    data.mkdir()
    return data, "the folder is empty", "images/ and masks/"


def no_pairs(data: Path) -> tuple[Path, str, str]:
    for mask in (data / "masks").iterdir():
        mask.rename(mask.with_name(f"of_{mask.name}"))
    return data, "no image has a mask of the same name", "Give masks the name of their image"


def one_image(data: Path) -> tuple[Path, str, str]:
    shutil.rmtree(data)
    return squares(data, 1), "it has 1 labelled case", "At least 2 are needed"


def truncated(data: Path) -> tuple[Path, str, str]:
    image = data / "images" / "003.png"
    image.write_bytes(image.read_bytes()[:-60])
    return image, "cannot be decoded", "copy or export it again"


def empty_file(data: Path) -> tuple[Path, str, str]:
    image = data / "images" / "003.png"
    image.write_bytes(b"")
    return image, "is empty", "Copy or export it again"


def text_named_png(data: Path) -> tuple[Path, str, str]:
    image = data / "images" / "003.png"
    image.write_text("Dear colleague")
    return image, "is not a PNG, JPEG", "Export it again"


def text_as_mask(data: Path) -> tuple[Path, str, str]:
    mask = data / "masks" / "003.png"
    mask.write_text("Dear colleague")
    return mask, "is not a PNG, JPEG", "Export it again"


def mask_larger_than_image(data: Path) -> tuple[Path, str, str]:
    mask = save(data / "masks" / "003.png", disk((30, 25)))
    return mask, "the mask is 25 x 30 pixels, the image 24 x 24", "at the size of its image"


def too_many_values(data: Path) -> tuple[Path, str, str]:
    (data / "labels.json").write_text('{"background": 0, "nucleus": 255}')
    values = np.arange(SIZE[0] * SIZE[1]).reshape(SIZE) % 37
    mask = save(data / "masks" / "003.png", values.astype(np.uint8))
    return mask, "36 unexpected values", "labels.json"


def not_a_number(data: Path) -> tuple[Path, str, str]:
    (data / "images" / "003.png").unlink()
    pixels = np.ones(SIZE, np.float32)
    pixels[3, 5] = np.nan
    tifffile.imwrite(data / "images" / "003.tif", pixels)
    return data / "images" / "003.tif", "1 pixels are NaN", "Replace them"


def bomb(data: Path) -> tuple[Path, str, str]:
    image = png_bomb(data / "images" / "003.png")
    return image, "20000 x 20000 pixels, more than the 100,000,000 allowed", "Downscale"


def bomb_as_mask(data: Path) -> tuple[Path, str, str]:
    mask = png_bomb(data / "masks" / "003.png")
    return mask, "20000 x 20000 pixels, more than the 100,000,000 allowed", "Downscale"


def two_extensions(data: Path) -> tuple[Path, str, str]:
    image = save(data / "images" / "003.jpg", noise(1, SIZE))
    return image, "shares its name with 003.png", "Keep one image of each name"


def two_masks(data: Path) -> tuple[Path, str, str]:
    save(data / "masks" / "003_mask.png", disk(SIZE))
    return data / "images" / "003.png", "has 2 masks", "Keep one mask for each image"


def patient_on_both_sides(data: Path) -> tuple[Path, str, str]:
    parts = ["train"] * 4 + ["test"] * 2
    rows = [f"images/00{i}.png,masks/00{i}.png,p{i % 3},{parts[i]}" for i in range(6)]
    (data / "manifest.csv").write_text("\n".join(["image,mask,patient,split", *rows]))
    return Path("p1"), "has cases in test and train", "Move all cases of a patient to one part"


def image_on_both_sides(data: Path) -> tuple[Path, str, str]:
    shutil.copy(data / "images" / "000.png", data / "images" / "005.png")
    (data / "train.txt").write_text("000\n001\n002\n")
    (data / "test.txt").write_text("003\n004\n005\n")
    return Path("000"), "the same image as 005 is in test and train", "Remove the copy"


def missing_column(data: Path) -> tuple[Path, str, str]:
    (data / "manifest.csv").write_text("frame,mask\nimages/000.png,masks/000.png\n")
    return data / "manifest.csv", "has no column 'image', only: frame, mask", "first line"


def missing_file(data: Path) -> tuple[Path, str, str]:
    rows = [f"images/00{i}.png,masks/00{i + 1}.png" for i in range(6)]
    (data / "manifest.csv").write_text("\n".join(["image,mask", *rows]))
    where = Path(f"{data / 'manifest.csv'}, line 7")
    return where, "the mask masks/006.png does not exist", "Paths are relative to"


def not_unicode(data: Path) -> tuple[Path, str, str]:
    name = os.fsdecode(b"caf\xe9.png")
    for kind in ("images", "masks"):
        (data / kind / "003.png").rename(data / kind / name)
    return data / "images" / name, "its name is not valid Unicode", "Rename it"


SPOILERS = [
    empty, no_pairs, one_image, truncated, empty_file, text_named_png, text_as_mask,
    mask_larger_than_image, too_many_values, not_a_number, bomb, bomb_as_mask, two_extensions,
    two_masks, missing_column, missing_file, not_unicode,
]  # fmt: skip
LEAKS = [patient_on_both_sides, image_on_both_sides]
"""What training says of them is in test_leaks.py."""


Spoil = Callable[[Path], tuple[Path, str, str]]


@pytest.mark.parametrize("spoil", SPOILERS, ids=lambda spoil: spoil.__name__)
def test_training_on_it_is_refused_with_file_finding_and_remedy(
    spoil: Spoil, data: Path, tmp_path: Path
) -> None:
    where, found, remedy = spoil(data)
    assert_refused(train(data), where, found, remedy)
    assert_nothing_left(tmp_path)


@pytest.mark.parametrize("spoil", [*SPOILERS, *LEAKS], ids=lambda spoil: spoil.__name__)
def test_checking_it_says_the_same(spoil: Spoil, data: Path) -> None:
    where, found, remedy = spoil(data)
    if spoil is one_image:
        assert medseg("data", "check", data).code == 0
        return
    checked = medseg("data", "check", data)
    assert checked.code in (1, 2)
    for text in (where, found, remedy):
        assert str(text) in checked.out + checked.err


def test_all_errors_are_listed_at_once(data: Path) -> None:
    first, _, _ = truncated(data)
    second = save(data / "masks" / "001.png", disk((30, 25)))
    third = save(data / "masks" / "stranger.png", disk())
    refused = train(data)
    assert_refused(refused, "3 errors in the data", first, second, third)
    assert f"medseg data check {data}" in refused.err


def test_a_bomb_is_refused_within_the_memory_of_any_other_image(
    trained: Path, photos: Path, tmp_path: Path
) -> None:
    png_bomb(tmp_path / "bomb.png")
    black = np.zeros((20_000, 20_000), np.uint8)
    tifffile.imwrite(tmp_path / "bomb.tif", black, compression="zlib", rowsperstrip=200)
    script = (
        "import resource, sys; from medseg.cli import main\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "def run(*line):\n"
        "    sys.argv = ['medseg', *line]\n"
        "    try: main()\n"
        "    except SystemExit as stop: return stop.code\n"
        "model, good, out, *bombs = sys.argv[1:]\n"
        "run('predict', model, good, '-o', out)\n"
        "before = peak()\n"
        "assert run('predict', model, *bombs[:1], '-o', out) == 1\n"
        "assert run('predict', model, *bombs[1:], '-o', out + '2') == 1\n"
        "print(peak() - before)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, str(trained), str(photos / "images" / "000.png"),
         str(tmp_path / "out"), str(tmp_path / "bomb.png"), str(tmp_path / "bomb.tif")],
        capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr.count("20000 x 20000 pixels") == 2
    kilobytes = int(ran.stdout.splitlines()[-1])
    assert kilobytes < 100_000


NAMES = ["with spaces and (brackets) [b]", "größe 患者 1", "-o", "x" * 240, "ü" * 120, "a.b.c"]


def test_unusual_names_go_through_training_prediction_and_evaluation(tmp_path: Path) -> None:
    data = squares(tmp_path / "Bilder [neu] 患者", len(NAMES))
    for number, name in enumerate(NAMES):
        for kind in ("images", "masks"):
            (data / kind / f"{number:03}.png").rename(data / kind / f"{name}.png")
    trained = medseg("train", data, "-o", tmp_path / "mein Lauf", *TINY)
    assert trained.code == 0
    assert f"{data} (4 train" in trained.err
    out = tmp_path / "aus gabe"
    options = ["--overlay", "--probabilities"]
    assert medseg("predict", tmp_path / "mein Lauf", data, "-o", out, *options).code == 0
    assert {name for name in left_in(out) if "/" not in name} == {
        "predictions.json", *(f"{name}.png" for name in NAMES),
    }  # fmt: skip
    scored = medseg("evaluate", data, out, "-o", tmp_path / "bericht ü.html")
    assert scored.code == 0
    assert "over 6 cases, no failures" in scored.out
    page = (tmp_path / "bericht ü.html").read_text(encoding="utf-8")
    assert all(name in page for name in NAMES)


def in_the_way(tmp_path: Path) -> Path:
    (tmp_path / "file").write_text("a file")
    return tmp_path / "file" / "run"


def forbidden(tmp_path: Path) -> Path:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    if os.access(folder, os.W_OK):
        pytest.skip("permissions do not bind this user")
    return folder / "run"


def kernels(tmp_path: Path) -> Path:
    if not Path("/proc/self").exists():
        pytest.skip("there is no /proc")
    return Path("/proc/medseg/run")


@pytest.mark.parametrize("place", [in_the_way, forbidden, kernels], ids=lambda p: p.__name__)
def test_an_output_that_cannot_be_written_is_named(
    place: Callable[[Path], Path], trained: Path, photos: Path, tmp_path: Path
) -> None:
    target = place(tmp_path)
    before = left_in(tmp_path)
    for command in (
        ["train", photos, "-o", target, *TINY],
        ["predict", trained, photos, "-o", target],
        ["data", "split", photos, "-o", target / "split.csv"],
        ["evaluate", photos, trained, "--masks", target],
    ):
        refused = medseg(*command)
        assert_refused(refused, target)
        assert "hoose another" in refused.err
    assert left_in(tmp_path) == before


def test_a_report_that_cannot_be_written_is_named_after_the_scores(
    trained: Path, photos: Path, tmp_path: Path
) -> None:
    target = in_the_way(tmp_path).with_name("report.html")
    ran = medseg("evaluate", photos, trained, "-o", target)
    assert ran.code == 2
    assert "Dice" in ran.out
    assert f"error: {target}: could not be written" in ran.err


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Fail every write beyond ``size`` bytes, as a full disk does."""
    before, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, hard))


@pytest.fixture
def stopped(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of four epochs, interrupted in the second."""
    steps = 0
    step = loop_module.TrainingLoop._step

    def counting(self: loop_module.TrainingLoop, batch: Any) -> dict[str, float]:
        nonlocal steps
        steps += 1
        self.stop_asked = steps == self.steps_per_epoch + 1
        return step(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(loop_module.TrainingLoop, "_step", counting)
        assert train(data, "--epochs", 4).code == 130
    return tmp_path / "run"


def test_a_disk_that_is_full_at_a_checkpoint_leaves_the_one_before_to_go_on_from(
    data: Path, stopped: Path
) -> None:
    last = stopped / "checkpoints" / "last.safetensors"
    before = last.read_bytes()
    with largest_file(len(before) * 3 // 4):
        full = medseg("train", data, "-o", stopped, "--resume", "--device", "cpu")
    assert full.code == 2
    assert f"error: {last}: could not be written" in full.err
    assert "Free space" in full.err
    assert last.read_bytes() == before
    assert not [name for name in left_in(stopped) if ".part" in name]
    resumed = medseg("train", data, "-o", stopped, "--resume", "--device", "cpu")
    assert resumed.code == 0
    assert "resumed  at epoch 2, step 1" in resumed.err
    assert "after 4 epochs" in resumed.out


def test_a_disk_that_is_full_before_training_leaves_no_run(data: Path, tmp_path: Path) -> None:
    with largest_file(1000):
        full = train(data)
    assert_refused(full, tmp_path / "run" / "cache", "Free space")
    assert left_in(tmp_path / "run") <= {"cache"}
    assert train(data).code == 0


def test_a_disk_that_is_full_while_masks_are_written_leaves_no_half_mask(
    trained: Path, tmp_path: Path
) -> None:
    save(tmp_path / "in" / "large.png", noise(1, (300, 300)))
    options = ["--probabilities"]
    with largest_file(2000):
        full = medseg("predict", trained, tmp_path / "in", "-o", tmp_path / "out", *options)
    assert_refused(full, tmp_path / "out" / "probabilities" / "large.npz", "Free space")
    assert left_in(tmp_path / "out") == {"predictions.json", "probabilities"}
    assert medseg("predict", trained, tmp_path / "in", "-o", tmp_path / "out", *options).code == 0


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "it holds no keys"),
        ("train: [", "it cannot be read as YAML"),
        ("train: {epochs: -3}", "train.epochs: -3 is not allowed"),
        ("trian: {}", "there is no such key"),
        ("\0\0\0", "it cannot be read as YAML"),
    ],
)
def test_a_corrupt_recipe_is_named_when_resuming(
    data: Path, stopped: Path, text: str, found: str
) -> None:
    (stopped / "recipe.yaml").write_text(text)
    before = left_in(stopped)
    assert_refused(train(data, "--resume"), stopped / "recipe.yaml", found)
    assert left_in(stopped) == before


@pytest.mark.parametrize("name", ["split.csv", "metrics.jsonl", "checkpoints/last.safetensors"])
def test_a_damaged_file_of_a_run_is_named_when_resuming(
    data: Path, stopped: Path, name: str
) -> None:
    (stopped / name).write_text("{nonsense\n")
    refused = medseg("train", data, "-o", stopped, "--resume", "--device", "cpu")
    assert_refused(refused, stopped / name)


@pytest.mark.parametrize("keep", [0, 100, 0.5, 0.999], ids=lambda keep: f"{keep}")
def test_a_truncated_bundle_is_refused_by_every_verb(
    keep: float, trained: Path, photos: Path, tmp_path: Path
) -> None:
    whole = (trained / "model.medseg").read_bytes()
    bundle = tmp_path / "model.medseg"
    bundle.write_bytes(whole[: int(keep if keep > 1 else keep * len(whole))])
    for command in (
        ["predict", bundle, photos, "-o", tmp_path / "out"],
        ["evaluate", photos, bundle, "-o", tmp_path / "scores.json"],
        ["info", bundle],
    ):
        assert_refused(medseg(*command), bundle, "damaged or not a bundle", "copy it again")
    assert left_in(tmp_path) == {"model.medseg"}


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".pkl", ".bin", ".medseg"])
def test_a_foreign_pickle_is_refused_and_its_code_not_run(
    suffix: str, photos: Path, tmp_path: Path
) -> None:
    model, trace = tmp_path / f"model{suffix}", tmp_path / "trace"
    model.write_bytes(pickle.dumps(Payload(trace)))
    command = ["predict", model, photos, "-o", tmp_path / "out"]
    for options in ([], ["--system", "unet"]):
        refused = medseg(*command, *options)
        assert_refused(refused, model)
        assert ("--trust" in refused.err) == (suffix != ".medseg")
    assert_refused(medseg("evaluate", photos, model), model)
    assert_refused(medseg("info", model), model)
    assert left_in(tmp_path) == {model.name}


def kinds_of_images(root: Path) -> Path:
    """An image of every kind that a clinic sends, and a mask of the size a viewer shows."""
    colour, grey = noise(0, (20, 28)), noise(1, (20, 28), channels=1)
    deep = np.random.default_rng(2).integers(0, 65536, (20, 28)).astype(np.uint16)
    images = {
        "palette.png": Image.fromarray(colour).convert("P", palette=Image.Palette.ADAPTIVE),
        "palette.gif": Image.fromarray(noise(3, (20, 28))).convert("P"),
        "cmyk.jpg": Image.fromarray(noise(4, (20, 28))).convert("CMYK"),
        "alpha.png": Image.fromarray(np.dstack([noise(5, (20, 28)), grey])),
        "alpha.webp": Image.fromarray(np.dstack([noise(6, (20, 28)), grey])),
        "grey and alpha.png": Image.fromarray(noise(7, (20, 28), channels=1)).convert("LA"),
        "16 bit.png": Image.fromarray(deep),
        "16 bit.tif": Image.fromarray(deep[::-1].copy()),
        "1 bit.bmp": Image.fromarray(noise(8, (20, 28), channels=1)).convert("1"),
        "turned left.jpg": Image.fromarray(noise(9, (20, 28))),
        "turned right.png": Image.fromarray(noise(10, (20, 28))),
        "mirrored.jpg": Image.fromarray(noise(11, (20, 28))),
    }
    orientation = {"turned left.jpg": 8, "turned right.png": 6, "mirrored.jpg": 2}
    for name, image in images.items():
        folder = root / "images" / name.split(".")[1]
        folder.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        exif[0x0112] = orientation.get(name, 1)
        image.save(folder / name, **({"exif": exif} if name in orientation else {}))
        seen = disk((28, 20) if name.startswith("turned") else (20, 28))
        save(root / "masks" / folder.name / f"{Path(name).stem}.png", seen)
    return root


def test_every_kind_of_image_trains_and_gets_a_mask_of_the_size_a_viewer_shows(
    tmp_path: Path,
) -> None:
    data = kinds_of_images(tmp_path / "data")
    assert train(data).code == 0
    options = ["--overlay", "--probabilities"]
    out = tmp_path / "out"
    assert medseg("predict", tmp_path / "run", data, "-o", out, *options).code == 0
    truths = sorted((data / "masks").rglob("*.png"))
    assert len(truths) == 12
    for truth in truths:
        name = truth.relative_to(data / "masks")
        shown = read_mask(truth).values.shape
        assert read_mask(out / name).values.shape == shown
        assert read_image(out / "overlay" / name).shape == (*shown, 3)
        with np.load((out / "probabilities" / name).with_suffix(".npz")) as stored:
            assert stored["probabilities"].shape == (1, *shown)
    scored = medseg("evaluate", data, out)
    assert "over 12 cases, no failures" in scored.out


@pytest.fixture(scope="module")
def grey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of grey images."""
    root = squares(tmp_path_factory.mktemp("grey") / "scans", 6)
    for image in (root / "images").iterdir():
        save(image, read_image(image)[..., 0])
    return root


def test_a_model_trained_on_grey_images_takes_colour_ones(
    grey: Path, photos: Path, tmp_path: Path
) -> None:
    assert medseg("train", grey, "-o", tmp_path / "run", *TINY).code == 0
    assert "channels 1" in medseg("info", tmp_path / "run").out
    assert medseg("predict", tmp_path / "run", photos, "-o", tmp_path / "out").code == 0
    assert "over 20 cases, no failures" in medseg("evaluate", photos, tmp_path / "run").out


def test_a_model_trained_on_colour_images_takes_grey_ones(
    grey: Path, trained: Path, tmp_path: Path
) -> None:
    assert "channels 3" in medseg("info", trained).out
    assert medseg("predict", trained, grey, "-o", tmp_path / "out").code == 0
    assert "over 6 cases, no failures" in medseg("evaluate", grey, trained).out


def test_one_image_of_another_kind_than_the_rest_makes_the_model_a_colour_one(
    grey: Path, tmp_path: Path
) -> None:
    data = shutil.copytree(grey, tmp_path / "data")
    save(data / "images" / "000.png", noise(1, SIZE))
    assert train(data).code == 0
    assert "channels 3" in medseg("info", tmp_path / "run").out
