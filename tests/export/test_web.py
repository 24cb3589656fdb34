"""The page in a real browser: the same masks as Python's, and no request."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser

import medseg
from inference.builders import COLOURS, manifest_and_weights
from medseg.errors import MedsegError, ModelError
from medseg.export import web
from medseg.export.graph import to_onnx
from medseg.export.web import render_page, write_page
from medseg.inference.bundle import Golden, Manifest, Postprocessing, StoredLabel, write_bundle
from medseg.inference.network import Model, load_network

from .web_browser import Visit, chromium, random_png

PHOTOS = sorted((Path(medseg.__file__).parent / "demo" / "dsb2018" / "images").glob("*.jpg"))


@dataclasses.dataclass(frozen=True)
class Exported:
    """A model and what its page is made of."""

    model: Model
    graph: bytes
    manifest: Manifest


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    path = tmp_path_factory.mktemp("binary") / "model.medseg"
    manifest, weights = manifest_and_weights()
    write_bundle(path, manifest, weights)
    model = load_network(path, device="cpu")
    return Exported(model, to_onnx(model), manifest)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


class Quiet(SimpleHTTPRequestHandler):
    """Lists what reached it."""

    asked: ClassVar[list[str]] = []
    isolated = False

    def log_message(self, *_: object) -> None:
        self.asked.append(self.path)

    def end_headers(self) -> None:
        if self.isolated:
            self.send_header("Cross-Origin-Opener-Policy", "same-origin")
            self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()


class Isolated(Quiet):
    isolated = True


@pytest.fixture(scope="module")
def site(binary: Exported, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of ``binary`` as a folder."""
    folder = tmp_path_factory.mktemp("site") / "page"
    image = np.random.default_rng(2).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    golden = Golden(image, (binary.model.predict(image) > 0).astype(np.uint8))
    card = "# Card\n\nMade of **noise**.\n\n| part | dice |\n|---|---|\n| val | 0.5 |\n"
    write_page(binary.graph, binary.manifest, folder, single_file=False, card=card, golden=[golden])
    return folder


@contextmanager
def serve(handler: Any) -> Iterator[str]:
    """The address of a server with this handler of requests."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    with serve(partial(Quiet, directory=str(site))) as address:
        yield address


def photo(index: int) -> Image.Image:
    return Image.open(PHOTOS[index]).convert("RGB")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Lossless files of many kinds and odd sizes, made of real photographs."""
    folder = tmp_path_factory.mktemp("images")
    exif = Image.Exif()
    exif[0x0112] = 6
    wide = np.asarray(photo(3).convert("L")).astype(np.uint16) * 31 + 400
    made = {
        "colour": photo(0), "grey": photo(1).convert("L"), "palette": photo(2).quantize(40),
        "sixteen": Image.fromarray(wide), "alpha": photo(4).convert("RGBA"),
        "odd": photo(5).crop((3, 5, 120, 78)), "narrow": photo(6).crop((0, 0, 9, 201)),
        "bits": photo(7).convert("1"), "mixed": photo(8).convert("LA"),
    }  # fmt: skip
    for name, image in made.items():
        image.save(folder / f"{name}.png")
    photo(9).save(folder / "turned.png", exif=exif)
    photo(10).save(folder / "lossless.webp", lossless=True)
    photo(11).save(folder / "plain.bmp")
    (folder / "interlaced.png").write_bytes(random_png(9, 2, 8, (71, 45), interlaced=True))
    return sorted(folder.iterdir())


def by_stem(files: list[Path], model: Model) -> dict[str, NDArray[Any]]:
    return {f"{file.stem}.png": model.predict(file) for file in files}


def assert_same(found: dict[str, NDArray[Any]], expected: dict[str, NDArray[Any]]) -> None:
    assert found.keys() == expected.keys()
    for name, mask in expected.items():
        assert found[name].shape == mask.shape
        assert int((found[name] != mask).sum()) == 0, name


def test_masks_of_lossless_files_are_those_of_python(
    browser: Browser, address: str, images: list[Path], binary: Exported
) -> None:
    with Visit(browser, address) as visit:
        visit.choose(images)
        found = visit.masks()
        assert_same(found, by_stem(images, binary.model))
        assert any(len(np.unique(mask)) == 2 for mask in found.values())
        loaded = [name for name in visit.requests if not name.startswith("blob:")]
        assert loaded == [address, f"{address}runtime.js", f"{address}model.js"]
        assert visit.complaints == []


def test_masks_of_jpegs_differ_in_a_thousandth_of_the_pixels_at_most(
    browser: Browser, address: str, binary: Exported
) -> None:
    files = PHOTOS[:12]
    with Visit(browser, address) as visit:
        visit.choose(files)
        expected = by_stem(files, binary.model)
        found = visit.masks()
        for name, mask in expected.items():
            assert (found[name] != mask).mean() <= 0.001


def test_one_file_opened_from_a_disk_asks_for_nothing(
    browser: Browser, binary: Exported, images: list[Path], tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    write_page(binary.graph, binary.manifest, page, single_file=True)
    with Visit(browser, page.as_uri()) as visit:
        visit.choose(images[:3])
        assert_same(visit.masks(), by_stem(images[:3], binary.model))
        assert [name for name in visit.requests if not name.startswith("blob:")] == [page.as_uri()]
        assert visit.complaints == []


def test_a_folder_works_from_a_disk_too(
    browser: Browser, site: Path, images: list[Path], binary: Exported
) -> None:
    with Visit(browser, (site / "index.html").as_uri()) as visit:
        visit.choose(images[:2])
        assert_same(visit.masks(), by_stem(images[:2], binary.model))


def test_threads_change_nothing(
    browser: Browser, site: Path, images: list[Path], binary: Exported
) -> None:
    with serve(partial(Isolated, directory=str(site))) as address, Visit(browser, address) as visit:
        assert visit.page.evaluate("crossOriginIsolated")
        visit.choose(images[:3])
        assert_same(visit.masks(), by_stem(images[:3], binary.model))
        assert visit.complaints == []


SEND = """async (address) => {
  const outcome = {};
  const tried = async (name, attempt) => {
    outcome[name] = await attempt().then(() => "sent", () => "blocked");
  };
  const load = (tag, more) => () => new Promise((resolve, reject) => {
    const outcome = { onload: resolve, onerror: reject };
    const element = Object.assign(document.createElement(tag), outcome, more);
    document.head.append(element);
  });
  await tried("fetch", () => fetch(address + "x"));
  await tried("image", load("img", { src: address + "x.png" }));
  await tried("script", load("script", { src: address + "model.js?secret" }));
  await tried("style", load("link", { rel: "stylesheet", href: address + "x.css" }));
  await tried("beacon", async () => { if (!navigator.sendBeacon(address + "x", "x")) throw 0; });
  await tried("socket", () => new Promise((resolve, reject) => {
    const socket = new WebSocket(address.replace("http", "ws"));
    socket.onopen = resolve;
    socket.onerror = reject;
  }));
  return outcome;
}"""


def test_the_page_cannot_send_even_to_where_it_came_from(browser: Browser, address: str) -> None:
    with Visit(browser, address) as visit:
        visit.page.get_by_text("is shown here").wait_for()
        Quiet.asked.clear()
        outcome = visit.page.evaluate(SEND, address)
        outcome.pop("beacon")  # it is queued, and then dropped
        assert set(outcome.values()) == {"blocked"}
        visit.page.wait_for_timeout(200)
        assert Quiet.asked == []


def relabelled(exported: tuple[Model, bytes], **changes: Any) -> tuple[Model, Manifest]:
    """The same network, of which other classes are said."""
    model, _ = exported
    manifest = model.manifest.model_copy(update=changes)
    return Model(manifest, model.network, device="cpu"), manifest


def assert_same_but_ties(found: NDArray[Any], file: Path, model: Model) -> None:
    """Two ways of computing may disagree where two classes are as likely to the sixth digit, which
    happens along the borders of three classes with random weights."""
    shares = np.sort(model.predict_probabilities(file), axis=0)
    tied = shares[-1] - shares[-2] < 1e-5
    differ = found != model.predict(file)
    assert not (differ.any(axis=-1) if differ.ndim == 3 else differ)[~tied].any()
    assert tied.mean() < 0.001


def test_classes_with_large_values_are_written_as_medseg_writes_them(
    browser: Browser, model: Model, graph: bytes, images: list[Path], tmp_path: Path
) -> None:
    write_page(graph, model.manifest, tmp_path / "p.html", single_file=True)
    with Visit(browser, (tmp_path / "p.html").as_uri()) as visit:
        visit.choose(images)
        found = visit.masks()
        for file in images:
            assert_same_but_ties(found[f"{file.stem}.png"], file, model)
        assert 1000 in found["colour.png"]
        assert visit.page.locator("#threshold").is_hidden()


@pytest.mark.parametrize("rules", [{"min_pixels": 400}, {"keep_largest": True}], ids=str)
def test_colours_and_components_are_as_medseg_makes_them(
    browser: Browser, model: Model, graph: bytes, images: list[Path], tmp_path: Path, rules: Any
) -> None:
    labels = tuple(StoredLabel(name=name, value=value) for name, value in COLOURS.items())
    changes = {"labels": labels, "rgb": True}
    manifest = model.manifest.model_copy(update=changes)
    plain = Model(manifest, model.network, device="cpu")
    manifest = manifest.model_copy(update={"postprocessing": Postprocessing(**rules)})
    cleaned = Model(manifest, model.network, device="cpu")
    write_page(graph, manifest, tmp_path / "p.html", single_file=True)
    with Visit(browser, (tmp_path / "p.html").as_uri()) as visit:
        visit.choose(images[:5])
        found = visit.masks()
        for file in images[:5]:
            assert_same_but_ties(found[f"{file.stem}.png"], file, cleaned)
        assert any((plain.predict(file) != cleaned.predict(file)).any() for file in images[:5])


def slide(visit: Visit, name: str, value: float) -> None:
    visit.page.locator(f"#{name}").evaluate(
        """(slider, value) => {
          slider.value = value;
          slider.dispatchEvent(new Event("input"));
          slider.dispatchEvent(new Event("change"));
        }""",
        value,
    )


def test_the_threshold_moves_all_masks_and_comes_back_to_the_models_own(
    browser: Browser, address: str, images: list[Path], binary: Exported
) -> None:
    files = images[:4]
    with Visit(browser, address) as visit:
        visit.choose(files)
        own = visit.masks()
        slide(visit, "threshold", 0.4)
        visit.page.get_by_text("0.4", exact=True).wait_for()
        visit.settle()
        moved = visit.masks()
        for file in files:
            share = binary.model.predict_probabilities(file)[0]
            near = np.abs(share - 0.4) < 1e-5
            expected = np.where(share >= np.float32(0.4), 255, 0)
            assert (moved[f"{file.stem}.png"] == expected)[~near].all()
        assert any((moved[name] != own[name]).any() for name in own)
        assert {row["threshold"] for row in visit.table()} == {"0.4"}
        visit.page.click("#reset")
        visit.settle()
        assert_same(visit.masks(), own)


def test_the_table_counts_every_class_in_pixels_percent_and_mm(
    browser: Browser, address: str, images: list[Path], binary: Exported, tmp_path: Path
) -> None:
    risky = tmp_path / "=cmd(1).png"
    risky.write_bytes(images[0].read_bytes())
    broken = tmp_path / "broken.png"
    broken.write_bytes(images[0].read_bytes()[:200])
    with Visit(browser, address) as visit:
        visit.choose([images[1], risky, broken])
        assert [row["area_mm2"] for row in visit.table()] == ["", "", ""]
        visit.page.fill("#spacing-x", "0.5")
        visit.page.fill("#spacing-y", "0.25")
        first, second, third = visit.table()
        mask = binary.model.predict(images[1])
        pixels = int((mask > 0).sum())
        assert int(first["pixels"]) == pixels
        assert float(first["percent"]) == pytest.approx(100 * pixels / mask.size, abs=1e-4)
        assert float(first["area_mm2"]) == pytest.approx(pixels * 0.125, rel=1e-5)
        assert (first["class"], first["value"]) == ("nucleus", "255")
        assert second["file"] == "'=cmd(1).png"
        assert "cannot be decoded" in third["error"]
        shown = visit.page.locator("#classes tr").first.inner_text().split("\t")
        assert shown[2] == f"{pixels:,}"


def test_a_damaged_file_is_named_and_stops_nothing(
    browser: Browser, address: str, images: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\nnonsense")
    (tmp_path / "b.tif").write_bytes(b"II*\0" + bytes(100))
    with Visit(browser, address) as visit:
        visit.choose([tmp_path / "a.png", tmp_path / "b.tif", images[0]])
        said = visit.errors()
        assert "It is damaged" in said[0]
        assert "medseg predict" in said[1]
        assert "a.png cannot be decoded" in visit.page.inner_text("#hint")
        assert visit.page.inner_text("#count") == "1 of 3 done, 2 failed"
        assert visit.complaints == []


def test_an_example_equals_the_mask_that_was_shipped(browser: Browser, address: str) -> None:
    with Visit(browser, address) as visit:
        visit.page.click("#example")
        visit.page.get_by_text("Every pixel is as in the mask").wait_for()


def test_it_can_be_used_from_the_keyboard(
    browser: Browser, address: str, images: list[Path]
) -> None:
    with Visit(browser, address) as visit:
        visit.choose(images[:3])
        page = visit.page
        page.keyboard.press("j")
        page.get_by_role("heading", name=images[1].name).wait_for()
        visit.settle()
        page.keyboard.press("c")
        assert not page.locator("#contours").is_checked()
        page.keyboard.press("]")
        assert page.inner_text("#opacity-value") == "45 %"
        page.keyboard.press("1")
        assert not page.get_by_label("Show nucleus").is_checked()
        with page.expect_download() as waiting:
            page.keyboard.press("d")
        assert waiting.value.suggested_filename == f"{images[1].stem}.png"
        page.locator("#pick").focus()
        reached = []
        for _ in range(16):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("document.activeElement.id"))
        wanted = ["pick-folder", "example", "save-all", "save-table", "clear", "save-mask"]
        assert [name for name in reached if name in wanted] == wanted
        assert {"opacity", "threshold", "contours", "spacing-x"} <= set(reached)


def test_every_control_has_a_name_and_changes_are_announced(
    browser: Browser, address: str, images: list[Path]
) -> None:
    with Visit(browser, address) as visit:
        visit.choose(images[:1])
        nameless = visit.page.evaluate(
            """() => [...document.querySelectorAll("button, input, select, canvas, progress")]
            .filter((e) => !e.labels?.length && !e.ariaLabel && !e.textContent.trim()
              && !e.closest('[role="img"]')).map((e) => e.outerHTML)"""
        )
        assert nameless == []
        assert "nucleus" in visit.page.inner_text("#live")
        assert "nucleus" in str(visit.page.locator("#layers").get_attribute("aria-label"))


def ink(visit: Visit) -> int:
    """Opaque pixels of the layer of areas."""
    return int(
        visit.page.evaluate(
            """() => {
              const { width, height } = document.getElementById("areas");
              const context = document.getElementById("areas").getContext("2d");
              const { data } = context.getImageData(0, 0, width, height);
              return data.filter((value, i) => i % 4 === 3 && value > 0).length;
            }"""
        )
    )


def test_the_drawn_area_is_the_mask_and_a_hidden_class_is_not_drawn(
    browser: Browser, address: str, images: list[Path], binary: Exported
) -> None:
    with Visit(browser, address) as visit:
        visit.choose(images[:1])
        assert ink(visit) == int((binary.model.predict(images[0]) > 0).sum())
        visit.page.get_by_label("Show nucleus").uncheck()
        assert ink(visit) == 0


DROP = """([type, name, data]) => {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, { type: "image/png" }));
  const init = { bubbles: true, cancelable: true };
  const event = type === "drop"
    ? new DragEvent("drop", { ...init, dataTransfer: transfer })
    : new ClipboardEvent("paste", { ...init, clipboardData: transfer });
  document.body.dispatchEvent(event);
}"""


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_images_can_be_dropped_and_pasted(
    browser: Browser, address: str, images: list[Path], binary: Exported, way: str
) -> None:
    data = base64.b64encode(images[0].read_bytes()).decode()
    with Visit(browser, address) as visit:
        visit.page.evaluate(DROP, [way, images[0].name, data])
        visit.page.locator("#list li.done").wait_for()
        assert_same(visit.masks(), by_stem(images[:1], binary.model))


def test_a_folder_keeps_its_shape_and_equal_names_stay_apart(
    browser: Browser, address: str, images: list[Path], tmp_path: Path
) -> None:
    for name in ("site/a/x.png", "site/b/x.png", "site/b/x.bmp"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        photo(0).crop((0, 0, 30, 20)).save(tmp_path / name)
    (tmp_path / "site" / "notes.txt").write_text("not an image", encoding="utf-8")
    with Visit(browser, address) as visit:
        visit.page.set_input_files("#folder", str(tmp_path / "site"))
        visit.page.locator("#list li").nth(2).wait_for(state="attached")
        visit.settle()
        names = set(visit.masks())
        assert names == {"site/a/x.png", "site/b/x.png", "site/b/x (2).png"}


def test_it_fits_a_phone_and_follows_the_dark_mode(
    browser: Browser, address: str, images: list[Path]
) -> None:
    backgrounds = set()
    for scheme in ("light", "dark"):
        options = {"viewport": {"width": 375, "height": 700}, "color_scheme": scheme}
        with Visit(browser, address, **options) as visit:
            visit.choose(images[:1])
            width = visit.page.evaluate("document.documentElement.scrollWidth")
            assert width <= 375
            backgrounds.add(visit.page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(backgrounds) == 2


def test_what_a_model_says_of_itself_cannot_become_markup(
    browser: Browser, binary: Exported, tmp_path: Path
) -> None:
    evil = "</script><img src=x onerror=alert(1)>"
    manifest = binary.manifest.model_copy(
        update={
            "labels": (StoredLabel(name="b", value=0), StoredLabel(name=evil, value=255)),
            "data": {"name": evil},
            "licence": evil,
        }
    )
    write_page(binary.graph, manifest, tmp_path / "p.html", single_file=True, card=f"# {evil}")
    with Visit(browser, (tmp_path / "p.html").as_uri()) as visit:
        visit.page.get_by_text("is shown here").wait_for()
        assert visit.page.inner_text("h1") == evil
        assert visit.page.locator("img").count() == 0
        assert visit.complaints == []


def test_the_page_says_that_images_stay_and_that_it_is_no_medical_device(site: Path) -> None:
    text = (site / "index.html").read_text(encoding="utf-8")
    assert "Your images stay on this device" in text
    assert "not a medical device" in text
    assert "MIT License" in text


def test_an_incomplete_copy_of_the_folder_says_what_is_missing(
    browser: Browser, site: Path, tmp_path: Path
) -> None:
    (tmp_path / "index.html").write_bytes((site / "index.html").read_bytes())
    (tmp_path / "runtime.js").write_bytes((site / "runtime.js").read_bytes())
    with Visit(browser, (tmp_path / "index.html").as_uri()) as visit:
        visit.page.get_by_text("copy all its files, also model.js").wait_for()


def test_without_the_library_it_says_how_to_get_it(
    binary: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "LIBRARY", "missing.mjs")
    with pytest.raises(MedsegError, match=r"tools/vendor_web\.py"):
        write_page(binary.graph, binary.manifest, tmp_path / "p.html", single_file=True)
    assert not list(tmp_path.iterdir())


def test_a_model_of_other_channels_than_pictures_have_is_refused(
    binary: Exported, tmp_path: Path
) -> None:
    settings = binary.manifest.preprocessing.model_copy(update={"channels": 4})
    manifest = binary.manifest.model_copy(update={"preprocessing": settings})
    with pytest.raises(ModelError, match="4 channels"):
        write_page(binary.graph, manifest, tmp_path / "p.html", single_file=True)


class Service(Quiet):
    """What the page needs of `medseg serve`."""

    model: Model
    page: str

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.answer(200, self.page.encode(), "text/html; charset=utf-8")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.asked.append(self.path)
        if self.headers.get("Authorization") != "Bearer open sesame":
            self.answer(401, b"{}", "application/json")
            return
        image = np.asarray(Image.open(io.BytesIO(body)).convert("RGB"))
        threshold = 0.9 if "threshold" in self.path else self.model.manifest.threshold
        share = self.model.predict_probabilities(image)[0]
        mask = io.BytesIO()
        Image.fromarray((share >= threshold).astype(np.uint8)).save(mask, "PNG")
        found = {"mask": base64.b64encode(mask.getvalue()).decode(), "milliseconds": 5}
        self.answer(200, json.dumps(found).encode(), "application/json")

    def answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def test_the_page_of_a_service_lets_it_compute_and_asks_for_a_token(
    browser: Browser, binary: Exported, tmp_path: Path
) -> None:
    asked: list[str] = []
    page = render_page({"first": binary.manifest, "second": binary.manifest})
    handler = type("Bound", (Service,), {"model": binary.model, "page": page, "asked": asked})
    photo(0).save(tmp_path / "a.png")
    with serve(handler) as address, Visit(browser, address) as visit:
        visit.page.set_input_files("#files", [str(tmp_path / "a.png")])
        visit.page.fill("#token", "wrong")
        visit.page.keyboard.press("Enter")
        visit.page.locator("#token-wrong").wait_for()
        visit.page.fill("#token", "open sesame")
        visit.page.keyboard.press("Enter")
        visit.page.locator("#list li.done").wait_for()
        share = binary.model.predict_probabilities(tmp_path / "a.png")[0]
        assert np.array_equal(visit.masks()["a.png"] > 0, share >= 0.5)
        slide(visit, "threshold", 0.9)
        visit.settle()
        assert np.array_equal(visit.masks()["a.png"] > 0, share >= 0.9)
        assert asked[-1] == "/v1/predict?model=first&threshold=0.9"
        visit.page.select_option("#model", "second")
        visit.page.locator("#list li.done").wait_for()
        assert asked[-1] == "/v1/predict?model=second"
        assert all(name.startswith((address, "blob:")) for name in visit.requests)


def test_a_picture_is_never_shown_under_the_name_of_another(
    browser: Browser, address: str, images: list[Path]
) -> None:
    with Visit(browser, address) as visit:
        visit.choose(images[:2])
        together = visit.page.evaluate(
            """() => {
              document.querySelectorAll("#list button")[1].click();
              return [document.getElementById("viewer-title").textContent,
                document.getElementById("layers").hidden];
            }"""
        )
        assert together == [images[1].name, True]
        visit.settle()
        assert visit.page.locator("#layers").is_visible()
