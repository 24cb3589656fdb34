"""A page with several models, of which one is chosen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser

from commands import medseg
from data.builders import save
from inference.builders import manifest_and_weights
from medseg.errors import ModelError
from medseg.export.exporter import export_page
from medseg.export.graph import to_onnx
from medseg.export.web import Offered, write_page_of
from medseg.inference.bundle import Golden, write_bundle
from medseg.inference.network import Model, load_network

from .conftest import noise
from .web_browser import Visit, chromium

LOADED = ("index.html", "runtime.js", "model.js", "model-2.js")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def nuclei(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A binary model with a title."""
    path = tmp_path_factory.mktemp("nuclei") / "nuclei.medseg"
    manifest, weights = manifest_and_weights()
    write_bundle(path, manifest.model_copy(update={"title": "Cell nuclei"}), weights)
    return load_network(path, device="cpu")


def example(model: Model, seed: int) -> Golden:
    image = noise((40, 60), seed)
    (found,) = model.infer([model.prepare(image)], [(40, 60)])
    return Golden(image, found.classes)


@pytest.fixture(scope="module")
def page(
    nuclei: Model, model: Model, graph: bytes, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("pages") / "page"
    offered = [
        Offered("nuclei", to_onnx(nuclei), nuclei.manifest, "# Nuclei", (example(nuclei, 1),)),
        Offered("organs", graph, model.manifest, "# Organs", (example(model, 2),)),
    ]
    write_page_of(offered, folder, single_file=False)
    return folder


@pytest.fixture
def visit(browser: Browser, page: Path) -> Iterator[Visit]:
    with Visit(browser, (page / "index.html").as_uri()) as visit:
        yield visit


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("images")
    return [save(folder / f"{n}.png", noise((30 + n, 50), n)) for n in range(3)]


def test_each_model_gives_the_masks_that_python_gives(
    visit: Visit, nuclei: Model, model: Model, files: list[Path]
) -> None:
    visit.choose(files)
    for name, reference in (("nuclei", nuclei), ("organs", model), ("nuclei", nuclei)):
        visit.page.select_option("#model", name)
        visit.settle()
        masks = visit.masks()
        for path in files:
            assert np.array_equal(masks[path.name], reference.predict(path)), (name, path.name)
        assert {row["model"] for row in visit.table()} == {name}
    assert visit.complaints == []


def test_the_page_asks_for_its_own_files_when_it_opens_and_then_for_nothing(
    visit: Visit, page: Path, files: list[Path]
) -> None:
    visit.choose(files)
    visit.page.select_option("#model", "organs")
    visit.settle()
    asked = [url for url in visit.requests if not url.startswith(("blob:", "data:"))]
    assert sorted(asked) == sorted((page / name).as_uri() for name in LOADED)


def test_title_classes_card_and_example_are_those_of_the_chosen_model(visit: Visit) -> None:
    def shown() -> tuple[str, str, str]:
        return (
            visit.page.locator("#title").inner_text(),
            visit.page.locator("#subtitle").inner_text(),
            visit.page.locator("#card").text_content() or "",
        )

    assert visit.page.locator("#model option").all_inner_texts() == ["Cell nuclei", "organs"]
    assert shown() == ("Cell nuclei", "Finds nucleus", "Nuclei")
    visit.page.select_option("#model", "organs")
    assert shown() == ("organs", "Finds liver, vein", "Organs")
    for name in ("organs", "nuclei"):
        visit.page.select_option("#model", name)
        visit.page.click("#example")
        visit.page.locator("#list li.done [aria-current=true]").wait_for()
        visit.settle()
        assert (
            "as in the mask that the model was shipped with"
            in visit.page.locator("#timing").inner_text()
        )
    # The first example is not one of this model.
    visit.page.locator("#list button").first.click()
    visit.settle()
    assert "shipped with" not in visit.page.locator("#timing").inner_text()


def test_the_model_may_be_changed_while_it_loads_and_computes(
    visit: Visit, nuclei: Model, files: list[Path]
) -> None:
    visit.page.set_input_files("#files", [str(path) for path in files])
    visit.page.evaluate(
        """() => {
          const list = document.getElementById("model");
          for (const name of ["organs", "nuclei", "organs", "nuclei"]) {
            list.value = name;
            list.dispatchEvent(new Event("change"));
          }
        }"""
    )
    visit.page.locator("#list li.done").nth(2).wait_for()
    visit.settle()
    masks = visit.masks()
    assert all(np.array_equal(masks[path.name], nuclei.predict(path)) for path in files)
    assert visit.page.locator("#trouble").is_hidden()
    assert visit.complaints == []


def test_a_copy_of_the_page_without_a_model_says_which_file_is_missing(
    browser: Browser, page: Path, tmp_path: Path
) -> None:
    for name in LOADED[:3]:
        (tmp_path / name).write_bytes((page / name).read_bytes())
    with Visit(browser, (tmp_path / "index.html").as_uri()) as visit:
        visit.page.locator("#trouble").wait_for()
        assert "copy all its files, also model-2.js" in visit.page.locator("#trouble").inner_text()


def test_the_command_writes_one_page_of_several_models(
    organs: Path, nuclei: Model, tmp_path: Path
) -> None:
    other = tmp_path / "nuclei.medseg"
    write_bundle(other, *manifest_and_weights())
    out = tmp_path / "page.html"
    ran = medseg("export", organs, other, "--format", "web", "--single-file", "-o", out)
    assert ran.code == 0
    for text in ("model: PyTorch", "nuclei: ONNX Runtime (the page's graph), fp32", "1 image of"):
        assert text in ran.out
    html = out.read_text()
    assert html.count('data-part="graph"') == html.count('data-part="graph-2"') == 1
    assert "nuclei: PyTorch" in (tmp_path / "page.html.md").read_text()


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--format", "onnx", "-o", "m.onnx"], "a file holds one model"),
        (["--format", "web", "-o", "p", "--int8"], "--int8: it is for one model"),
        (["--format", "web", "-o", "p", "--data", "x"], "--data: it is for one model"),
        (["--format", "web", "-o", "p", "--dice-budget", "1"], "--dice-budget: it is for one"),
        (["--format", "web", "-o", "p"], "another model is called model, too"),
        (["--format", "web", "-o", "p.html"], "it names a file"),
    ],
)
def test_what_is_for_one_model_is_refused_for_several(
    organs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], found: str
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = medseg("export", organs, organs, *options)
    assert ran.code == 2
    assert found in ran.message
    assert list(tmp_path.iterdir()) == []


def test_a_graph_makes_no_page(tmp_path: Path, organs: Path) -> None:
    (tmp_path / "m.onnx").touch()
    with pytest.raises(ModelError, match="a page is made of runs"):
        export_page([organs, tmp_path / "m.onnx"], tmp_path / "page")
