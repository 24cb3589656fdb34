"""Models by name, wherever a model is asked for."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import medseg
from commands import medseg as command
from data.builders import noise, save
from medseg import zoo
from medseg.data.catalogue import load_entry
from medseg.errors import ModelError, plural
from medseg.inference.bundle import find_bundle, read_golden
from medseg.serve.served import load_models
from medseg.zoo.entries import ENTRIES

from .conftest import Shipped


def test_a_name_predicts_what_its_file_predicts(nuclei: Shipped, tmp_path: Path) -> None:
    image = save(tmp_path / "in" / "a.png", noise(1, (40, 30)))
    assert command("predict", "nuclei", image, "-o", "named").code == 0
    assert command("predict", nuclei.model, image, "-o", "filed").code == 0
    assert Path("named/a.png").read_bytes() == Path("filed/a.png").read_bytes()
    assert medseg.load("nuclei", device="cpu").predict(noise(1, (40, 30))).shape == (40, 30)


def test_a_folder_of_images_may_have_the_name_of_the_model(nuclei: Shipped) -> None:
    save(Path("nuclei") / "a.png", noise(1))
    ran = command("predict", "nuclei", "nuclei", "-o", "out")
    assert ran == (0, "1 mask written to out\n", "")


@pytest.mark.parametrize("kind", ["file", "run", "unfinished run"])
def test_what_lies_on_the_disk_comes_before_a_name(
    nuclei: Shipped, trained: Path, kind: str
) -> None:
    if kind == "file":
        shutil.copyfile(trained / "model.medseg", "nuclei")
        assert find_bundle(Path("nuclei")) == Path("nuclei")
    elif kind == "run":
        shutil.copytree(trained, "nuclei")
        assert find_bundle(Path("nuclei")) == Path("nuclei/model.medseg")
    else:
        Path("nuclei").mkdir()
        Path("nuclei/recipe.yaml").touch()
        with pytest.raises(ModelError, match="has not finished"):
            find_bundle(Path("nuclei"))


def test_a_path_that_ends_in_a_name_is_no_name(nuclei: Shipped) -> None:
    with pytest.raises(ModelError, match="no such file"):
        medseg.load("models/nuclei")


def test_whoever_mistypes_a_name_is_told_the_right_one(nuclei: Shipped) -> None:
    assert "Did you mean 'nuclei'?" in command("predict", "nuclie", "x.png", "-o", "out").err
    assert "comes with medseg: nuclei" in command("predict", "lungs", "x.png", "-o", "out").err
    assert "Did you mean 'nuclei'?" in command("export", "nuklei", "-o", "x.onnx").err


def test_a_model_is_scored_by_its_name(nuclei: Shipped, photos: Path) -> None:
    scored = medseg.evaluate(nuclei.cases, "nuclei", device="cpu")
    assert scored.predictions == "nuclei"
    assert scored.overall == medseg.evaluate(nuclei.cases, nuclei.model, device="cpu").overall
    ran = command("evaluate", photos, "nuclei")
    assert "Leak: 18 of these 20 images were trained or chosen on." in ran.out


def test_a_registered_dataset_may_have_the_name_of_the_model(
    nuclei: Shipped, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDSEG_HOME", str(tmp_path / "config"))
    assert command("data", "add", "nuclei", nuclei.cases).code == 0
    assert command("info", "nuclei").out.startswith("dataset")
    assert command("info", "nuclei", "--card").out.startswith("# Cell nuclei")
    assert command("evaluate", "nuclei", "nuclei").code == 0


def test_a_service_knows_models_by_their_names(nuclei: Shipped) -> None:
    (served,) = load_models([Path("nuclei")], threads=1).values()
    assert served.name == "nuclei"
    assert served.model.manifest.title == "Cell nuclei in microscopy"
    assert "Caicedo" in served.card


def test_an_export_gives_the_golden_masks_of_the_rounded_weights(nuclei: Shipped) -> None:
    golden = len(read_golden(nuclei.model))
    ran = command("export", "nuclei", "-o", "nuclei.onnx")
    assert ran.code == 0, ran.err
    assert f"Masks compared on {plural(golden, 'golden case')} of the model." in ran.out
    exported = medseg.load("nuclei.onnx")
    for case in read_golden(nuclei.model):
        assert np.array_equal(exported.predict(case.image) > 0, case.classes > 0)


def test_info_and_card_of_a_name(nuclei: Shipped) -> None:
    facts = command("info", "nuclei").out
    assert re.search(r"^title +Cell nuclei in microscopy$", facts, re.MULTILINE)
    assert re.search(r"^licence +CC0-1.0$", facts, re.MULTILINE)
    assert "not a medical device" in command("info", "nuclei", "--card").out


def test_entries_have_a_licence_and_somebody_to_name() -> None:
    assert set(ENTRIES) == {"nuclei", "polyp", "fetal-head", "brain-tumor", "hippocampus"}
    for entry in ENTRIES.values():
        data = load_entry(entry.dataset)
        same = data.licence.replace(" ", "-").removesuffix("-4.0").removesuffix("-1.0")
        assert entry.licence.startswith(same)
        assert entry.with_images == ("SA" not in data.licence)
        assert data.citation.authors in entry.attribution


def test_names_are_valid_where_nothing_ships(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(zoo, "SHIPPED", ())
    monkeypatch.chdir(tmp_path)
    ran = command("predict", "polyp", os.devnull, "-o", "out")
    assert ran.code == 2
    assert ran.err.rstrip().endswith("a .medseg or an .onnx file")
