from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from commands import medseg
from data.builders import save, squares
from inference.builders import promptable
from medseg import load
from medseg.data.prompts import Box, Point, Prompts, read_scribbles
from medseg.engine.openings import read_openings
from medseg.errors import MedsegError
from medseg.inference.bundle import read_manifest
from medseg.inference.promptable import PromptableModel
from medseg.interactions import Course, Interactions, measure_interactions


def course(*dice: float, case: str = "a") -> Course:
    return Course(case, case, "organ", 9, dice)


def test_interactions_needed_are_the_first_that_reach_a_dice() -> None:
    assert course(0.2, 0.85, 0.7, 0.95).needed(0.8) == 2
    assert course(0.2, 0.85, 0.7, 0.95).needed(0.9) == 4
    assert math.isinf(course(0.2, 0.3).needed(0.8))


def test_one_that_never_gets_there_counts_as_one_more_than_there_were() -> None:
    found = Interactions("t", "m", "point", (course(0.9, 0.9), course(0.1, 0.2, case="b")))
    assert found.needed(0.8) == (2.0, 1)


def test_means_have_intervals_over_patients() -> None:
    courses = tuple(course(0.1 * i, 0.5, case=str(i)) for i in range(6))
    first, second = Interactions("t", "m", "point", courses).means()
    assert first.mean == pytest.approx(0.25)
    assert first.low is not None
    assert first.high is not None
    assert first.low < 0.25 < first.high
    assert second.low == second.high == 0.5


def test_all_formats_hold_the_same(tmp_path: Path) -> None:
    found = Interactions("t", "m", "box", (course(0.25, 0.5), course(0.75, 1.0, case="b")))
    for suffix in (".csv", ".json", ".svg", ".png"):
        found.save(tmp_path / f"f{suffix}")
    lines = list(csv.DictReader((tmp_path / "f.csv").read_text(encoding="utf-8").splitlines()))
    assert [float(line["dice"]) for line in lines] == [0.25, 0.5, 0.75, 1.0]
    assert [line["interactions"] for line in lines] == ["1", "2", "1", "2"]
    written = json.loads((tmp_path / "f.json").read_text())
    assert [each["mean"] for each in written["dice"]] == [0.5, 0.75]
    assert ElementTree.parse(tmp_path / "f.svg").getroot().tag.endswith("svg")
    with Image.open(tmp_path / "f.png") as picture:
        assert picture.size[0] > 300
    with pytest.raises(MedsegError, match=r"\.csv, \.json, \.svg or \.png"):
        found.save(tmp_path / "f.html")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two squares an image, one of each class; the first image shows none."""
    root = squares(tmp_path_factory.mktemp("data") / "squares", 12, classes=3)
    save(root / "masks" / "000.png", np.zeros((24, 24), np.uint8))
    return root


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "clicks"
    trained = medseg(
        "train", data, "-o", folder, "--system", "scribbleprompt", "--image-size", 24,
        "--epochs", 1, "--batch-size", 4, "--device", "cpu", "--set", "network.widths=[6,6]",
        "--set", "method_options.rounds=2",
    )  # fmt: skip
    assert trained.code == 0, trained.err
    return folder


def fills_boxes(
    self: PromptableModel, prepared: Any, prompts: Prompts, previous: Tensor | None = None
) -> Tensor:
    """A model that knows nothing but boxes, and pixels that are clicked."""
    del prepared
    found = torch.full((1, 1, 24, 24), -9.0) if previous is None else previous.clone()
    for box in prompts.boxes:
        found[..., box.y0 : box.y1, box.x0 : box.x1] = 9
    for point in prompts.points:
        found[..., point.y, point.x] = 9 if point.positive else -9
    return found


def test_every_structure_is_asked_about_by_itself(
    data: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PromptableModel, "answer", fills_boxes)
    found = measure_interactions(data, run, interactions=2, way="box", part="all", device="cpu")
    by_case: dict[str, list[Course]] = {}
    for each in found.courses:
        by_case.setdefault(each.case, []).append(each)
    assert "000" not in by_case
    assert len(by_case) == 11
    for courses in by_case.values():
        assert [each.structure for each in courses] == ["class_1", "class_2"]
        # The second square lies over the first.
        assert courses[1].dice == (1.0, 1.0)
        assert courses[0].dice[1] >= courses[0].dice[0]


def test_points_go_where_something_is_wrong_and_each_answer_starts_from_the_last(
    data: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PromptableModel, "answer", fills_boxes)
    found = measure_interactions(data, run, interactions=4, part="all", device="cpu")
    for each in found.courses:
        # Every click adds one pixel of the structure.
        wanted = [2 * n / (n + each.pixels) for n in range(1, 5)]
        assert each.dice == pytest.approx(wanted)


@pytest.mark.parametrize("way", ["point", "scribble", "box"])
def test_the_same_seed_gives_the_same_courses(data: Path, run: Path, way: Any) -> None:
    first, again = (
        measure_interactions(data, run, interactions=2, way=way, part="val", device="cpu")
        for _ in range(2)
    )
    assert first.courses == again.courses
    assert all(0 <= dice <= 1 for each in first.courses for dice in each.dice)


def test_a_look_at_the_test_part_is_logged(data: Path, run: Path) -> None:
    before = len(read_openings(run))
    measure_interactions(data, run, interactions=1, part="val", device="cpu")
    assert len(read_openings(run)) == before
    measure_interactions(data, run, interactions=1, device="cpu")
    assert len(read_openings(run)) == before + 1


def test_what_takes_no_prompts_is_refused(photos: Path, trained: Path) -> None:
    with pytest.raises(MedsegError, match="takes no prompts"):
        measure_interactions(photos, trained, interactions=1)


def test_a_way_that_the_model_does_not_take_is_an_error_that_says_what_it_takes(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = promptable()
    model.manifest = model.manifest.model_copy(update={"prompts": ("box", "scribble")})
    monkeypatch.setattr("medseg.interactions.load", lambda *_, **__: model)
    with pytest.raises(MedsegError, match=r"does not take points\. It takes boxes or scribbles"):
        measure_interactions(data, "run.medseg", way="box")


def test_no_interaction_at_all_is_refused(data: Path, run: Path) -> None:
    with pytest.raises(MedsegError, match="--interactions 0"):
        measure_interactions(data, run, interactions=0)


# The verbs, as their users type them.


def test_training_says_how_far_clicks_go_and_leaves_a_curve(data: Path, run: Path) -> None:
    assert (run / "interactions.svg").is_file()
    assert (run / "scores" / "interactions_val.csv").is_file()
    manifest = read_manifest(run / "model.medseg")
    assert manifest.prompts == ("point", "box", "scribble", "mask")
    assert [label.name for label in manifest.labels] == ["background", "structure"]
    assert manifest.num_classes == 1


def test_a_curve_and_a_table_are_written(data: Path, run: Path, tmp_path: Path) -> None:
    result = medseg(
        "evaluate", data, run, "--interactions", 2, "--part", "val", "--device", "cpu",
        "-o", tmp_path / "c.csv", "-o", tmp_path / "c.svg",
    )  # fmt: skip
    assert result.code == 0, result.err
    assert "Dice 0.8:" in result.out
    assert {path.name for path in tmp_path.iterdir()} == {"c.csv", "c.svg"}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((), "--interactions"),
        (("--interactions", 2, "--tta"), "--tta"),
        (("--interactions", 2, "--metrics", "dice"), "--metrics"),
        (("--interactions", 2, "-o", "scores.html"), ".svg"),
        (("--by", "box"), "--interactions"),
    ],
)
def test_what_does_not_go_together_is_an_error_that_names_it(
    data: Path, run: Path, arguments: tuple[object, ...], named: str
) -> None:
    result = medseg("evaluate", data, run, "--device", "cpu", *arguments)
    assert result.code == 2
    assert named in result.message


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((), "nothing is pointed at"),
        (("--point", "24,0"), "24 x 24 pixels"),
        (("--point", "a"), "--point a"),
        (("--box", "1,2,3"), "--box 1,2,3"),
        (("--box", "5,5,5,9"), "left,top,right,bottom"),
        (("--point", "3,4", "--tta"), "--tta"),
        (("--scribble", "none.png"), "none.png"),
    ],
)
def test_prompts_that_cannot_be_are_an_error_and_nothing_is_written(
    data: Path, run: Path, tmp_path: Path, arguments: tuple[object, ...], named: str
) -> None:
    image = data / "images" / "001.png"
    result = medseg("predict", run, image, "-o", tmp_path / "out", "--device", "cpu", *arguments)
    assert result.code == 2
    assert named in result.message
    assert not list(tmp_path.rglob("*.png"))


def test_prompts_point_into_one_image(data: Path, run: Path, tmp_path: Path) -> None:
    result = medseg("predict", run, data / "images", "-o", tmp_path / "out", "--point", "1,1")
    assert result.code == 2
    assert "12 images" in result.message


def test_a_model_that_takes_no_prompts_refuses_them(
    photos: Path, trained: Path, tmp_path: Path
) -> None:
    image = photos / "images" / "001.png"
    result = medseg("predict", trained, image, "-o", tmp_path / "out", "--point", "1,1")
    assert result.code == 2
    assert "takes no prompts" in result.message


def test_a_mask_is_made_again_for_other_prompts(data: Path, run: Path, tmp_path: Path) -> None:
    image, out = data / "images" / "001.png", tmp_path / "out"
    drawn = np.zeros((24, 24, 3), np.uint8)
    drawn[3:9, 4], drawn[20, 2:20] = (255, 255, 255), (255, 0, 0)
    strokes = save(tmp_path / "strokes.png", drawn)
    model = load(run, device="cpu")
    assert isinstance(model, PromptableModel)
    for options, prompts in (
        (("--point", "5,6", "--point", "20,20,-"), Prompts((Point(5, 6), Point(20, 20, False)))),
        (("--box", "2,3,12,14", "--scribble", strokes),
         Prompts(boxes=(Box(2, 3, 12, 14),), scribbles=read_scribbles(strokes))),
    ):  # fmt: skip
        result = medseg("predict", run, image, "-o", out, "--device", "cpu", *options)
        assert result.code == 0, result.err
        with Image.open(out / "001.png") as picture:
            mask = np.asarray(picture)
        np.testing.assert_array_equal(mask, model.predict(image, prompts=prompts))


@pytest.mark.parametrize("verb", ["export", "explain", "serve"])
def test_verbs_that_cannot_point_say_so(data: Path, run: Path, tmp_path: Path, verb: str) -> None:
    options: dict[str, tuple[object, ...]] = {
        "export": ("-o", tmp_path / "m.onnx"),
        "explain": (data / "images" / "001.png", "-o", tmp_path / "e"),
        "serve": ("--port", 0),
    }
    result = medseg(verb, run, *options[verb])
    assert result.code == 2
    assert "here nothing can be pointed at" in result.message


def test_a_benchmark_refuses_what_it_cannot_point_at(data: Path, tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(f"systems: [scribbleprompt]\ndata: ['{data}']\n")
    result = medseg("benchmark", spec, "-o", tmp_path / "bench")
    assert result.code == 2
    assert "--interactions" in result.message


def test_info_and_card_say_what_it_is_pointed_at_with(run: Path) -> None:
    assert "point, box, scribble, mask" in medseg("info", run).out
    card = medseg("info", run, "--card").out
    assert "points, boxes, scribbles or an earlier mask" in card
    assert "--interactions 10" in card
