"""A model as a web page that computes where it is opened, and sends nothing anywhere.

The sources lie in ``page/``, plain JavaScript in a few files; ONNX Runtime for browsers in
``vendor/``, where ``tools/vendor_web.py`` puts it. A page is text with everything inside: the
library and the graph as base64 of gzip. A Content-Security-Policy forbids every request.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template
from typing import Any

from numpy.typing import NDArray
from PIL import Image

from medseg.data.io import MAX_PIXELS
from medseg.errors import MedsegError, ModelError
from medseg.export.web.markdown import to_html
from medseg.files import write_text
from medseg.inference.bundle import Golden, Manifest
from medseg.report.overlay import class_colour

LIBRARY = "ort.wasm.bundle.min.mjs"
MODULE = "ort-wasm-simd-threaded.wasm.gz"
SHARED = ("png.js", "picture.js")
"""Sources that the worker and the page both hold."""

_NONE = "'none'"
_EXPORTS = re.compile(r"export\s*\{([^{}]*)\};?\s*(?://# sourceMappingURL=\S*\s*)?$")

_LOCAL = (
    "Your images stay on this device. This is not a medical device.",
    "The page computes in your browser and has no permission to send anything; it works without "
    "a network. Do not base a diagnosis or a treatment on it.",
)
_REMOTE = (
    "Your images are sent to the server that this page came from. This is not a medical device.",
    "That server computes the masks and keeps neither; the page sends nothing anywhere else. Do "
    "not base a diagnosis or a treatment on it.",
)


def write_page(
    graph: bytes,
    manifest: Manifest,
    output: Path,
    *,
    single_file: bool,
    card: str = "",
    golden: Sequence[Golden] = (),
) -> None:
    """Write the page of a model.

    Args:
        graph: ONNX, by :func:`medseg.export.graph.to_onnx`.
        manifest: of the same model.
        output: a folder, which gets ``index.html``, ``runtime.js`` and ``model.js``; with
            ``single_file`` the HTML file.
        single_file: all in one file, which is as large but easier to pass on.
        card: the model card, Markdown.
        golden: the first is offered as an example to try.

    Raises:
        MedsegError: onnxruntime-web is not there, or nothing can be written.
        ModelError: the model takes images that browsers do not decode.
    """
    offered = Offered(_title(manifest), graph, manifest, card, tuple(golden))
    write_page_of([offered], output, single_file=single_file)


@dataclass(frozen=True)
class Offered:
    """A model that a page offers.

    Attributes:
        name: by which tables name it; of one page, all differ.
        graph: ONNX, by :func:`medseg.export.graph.to_onnx`.
        manifest: of the same model.
        card: the model card, Markdown.
        golden: the first is offered as an example to try.
    """

    name: str
    graph: bytes
    manifest: Manifest
    card: str = ""
    golden: tuple[Golden, ...] = ()


def write_page_of(models: Sequence[Offered], output: Path, *, single_file: bool) -> None:
    """Write a page on which one of several models is chosen.

    All of them are in the page: one that fetched the model that is chosen would need permission to
    ask for files when it already holds images, and this one has none.

    Args:
        models: at least one; the first is chosen when the page opens.
        output: as for :func:`write_page`; the graphs lie in ``model.js``, ``model-2.js`` ...
        single_file: likewise.

    Raises:
        MedsegError: onnxruntime-web is not there, or nothing can be written.
        ModelError: a model takes images that browsers do not decode.
    """
    for model in models:
        channels = model.manifest.preprocessing.channels
        if channels not in (1, 3):
            raise ModelError(
                output,
                f"the model takes images of {channels} channels, and picture files that a page "
                "can read hold 1 or 3",
                "Use --format onnx",
            )
    about = _about(
        {model.name: model.manifest for model in models},
        {model.name: model.card for model in models},
        remote=False,
    )
    runtime = {"worker": _pack(_worker(_library())), "wasm": _base64(_vendored(MODULE))}
    graphs: dict[str, dict[str, str]] = {}
    for number, (model, told) in enumerate(zip(models, about["models"], strict=True), start=1):
        suffix = "" if number == 1 else f"-{number}"
        told["graph"] = f"graph{suffix}"
        told["example"] = _example(model.golden[0]) if model.golden else None
        graphs[f"model{suffix}.js"] = {told["graph"]: _pack(model.graph)}
    packed = {name: text for parts in graphs.values() for name, text in parts.items()}
    about["parts"] = [*runtime, *packed]
    if single_file:
        write_text(output, _render(about, inside={**runtime, **packed}))
        return
    beside = {"runtime.js": runtime, **graphs}
    about["files"] = {part: file for file, parts in beside.items() for part in parts}
    for file, parts in beside.items():
        write_text(output / file, _as_script(parts))
    write_text(output / "index.html", _render(about, beside=tuple(beside)))


def render_page(
    manifests: Mapping[str, Manifest], *, cards: Mapping[str, str] | None = None
) -> str:
    """The same page for an HTTP service: the server it came from computes the masks.

    Images are sent to ``POST v1/predict?model=NAME[&threshold=T]`` beside the page, as raw body
    with ``Accept: application/json``; the answer's ``mask`` is a PNG of class indices as base64.
    A 401 makes the page ask for a bearer token.

    Args:
        manifests: of the models, by the names that the service knows.
        cards: their model cards, Markdown.
    """
    about = _about(manifests, cards or {}, remote=True)
    return _render(about, inside={"worker": _pack(_worker(""))})


def _about(
    manifests: Mapping[str, Manifest], cards: Mapping[str, str], *, remote: bool
) -> dict[str, Any]:
    """What the page's script knows of itself and its models."""
    compute = _NONE if remote else "'wasm-unsafe-eval'"
    return {
        "remote": remote,
        "parts": ["worker"],
        "files": {},
        # Added by the script once it has all it needs: from then on not even the page's own
        # files are asked for.
        "lock": f"script-src {compute}; worker-src blob:",
        "models": [_model(name, each, cards.get(name, "")) for name, each in manifests.items()],
    }


def _model(name: str, manifest: Manifest, card: str) -> dict[str, Any]:
    data = manifest.recipe.get("data", {})
    limit = round(data["max_megapixels"] * 1e6) if "max_megapixels" in data else MAX_PIXELS
    binary = manifest.num_classes == 1
    rules = manifest.postprocessing
    return {
        "name": name,
        "title": manifest.title or name,
        "channels": manifest.preprocessing.channels,
        "threshold": manifest.threshold if binary else None,
        "maxPixels": limit,
        "components": {"keepLargest": rules.keep_largest, "minPixels": rules.min_pixels},
        "labels": [
            {
                "name": label.name,
                "value": label.value,
                "colour": label.colour or _hex(class_colour(max(1, index))),
            }
            for index, label in enumerate(manifest.labels)
        ],
        "rgb": manifest.rgb,
        "facts": _facts(manifest),
        "card": to_html(card),
        "example": None,
    }


def _title(manifest: Manifest) -> str:
    return manifest.title or str(manifest.data.get("name") or manifest.system)


def _facts(manifest: Manifest) -> list[tuple[str, str]]:
    data, side = manifest.data, manifest.preprocessing.image_size
    cases = data.get("cases")
    if isinstance(cases, dict):
        cases = ", ".join(f"{count} {part}" for part, count in cases.items())
    scores = ", ".join(
        f"{name.removeprefix('val_').replace('_', ' ')} {value:.3f}"
        for name, value in manifest.scores.items()
        if not name.startswith("test_")
    )
    test = manifest.scores.get("test_dice")
    return [
        ("Trained on", str(data.get("name", "unknown data")) + (f" ({cases})" if cases else "")),
        ("Validation", scores or "none"),
        *([] if test is None else [("Test", f"dice {test:.3f}")]),
        ("System", f"{manifest.system}, {manifest.parameters:,} parameters"),
        ("Images are resized to", f"{side} x {side} pixels"),
        ("Licence", manifest.licence or "not stated"),
        *([("Images of", str(data["attribution"]))] if data.get("attribution") else []),
        ("Made by", f"medseg {manifest.medseg}"),
    ]


def _example(case: Golden) -> dict[str, str]:
    return {
        "image": _base64(_png(case.image)),
        "classes": _base64(case.classes.tobytes()),
    }


def _png(image: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(file, "PNG")
    return file.getvalue()


def _hex(colour: tuple[int, int, int]) -> str:
    return "#" + "".join(f"{part:02x}" for part in colour)


def _render(
    about: Mapping[str, Any],
    *,
    inside: Mapping[str, str] | None = None,
    beside: Sequence[str] = (),
) -> str:
    remote = about["remote"]
    style = f"\n{_source('page.css', package='medseg.report')}{_source('page.css')}"
    names = (*SHARED, "mask.js", "engine.js", "app.js")
    script = f'\n"use strict";\n(() => {{\n{_join(names)}}})();\n'
    promise, limits = _REMOTE if remote else _LOCAL
    reads = "PNG, JPEG, WebP, BMP and GIF"
    data = [
        f'<script type="text/plain" data-part="{name}">{text}</script>'
        for name, text in (inside or {}).items()
    ]
    # Text of the models is within JSON within HTML.
    shown = json.dumps(about, ensure_ascii=False).replace("<", "\\u003c")
    data.append(f'<script type="application/json" id="about-data">{shown}</script>')
    data += [f'<script src="{name}"></script>' for name in beside]
    return Template(_source("page.html")).substitute(
        policy=html.escape(_policy(script, style, remote=remote, files=bool(beside)), quote=True),
        title=html.escape(about["models"][0]["title"]),
        style=style,
        script=script,
        promise=promise,
        limits=limits,
        formats=reads if remote else f"{reads}; other files with <code>medseg predict</code>",
        accept="image/png,image/jpeg,image/webp,image/bmp,image/gif,.png,.jpg,.jpeg,.webp,.bmp,.gif"
        + (",.tif,.tiff" if remote else ""),
        licences=html.escape(_licences(remote=remote)),
        data="\n".join(data),
    )


def _policy(script: str, style: str, *, remote: bool, files: bool) -> str:
    """Own text by its hash; where scripts lie beside the page, these, too."""
    scripts = [_hash(script)]
    if not remote:
        scripts.append("'wasm-unsafe-eval'")
    if files:
        scripts += ["'self'", "file:"]
    rules = {
        "default-src": _NONE,
        "script-src": " ".join(scripts),
        "worker-src": "blob:",
        "style-src": _hash(style),
        "img-src": "blob: data:",
        "connect-src": "'self'" if remote else _NONE,
        "form-action": _NONE,
        "base-uri": _NONE,
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _worker(library: str) -> str:
    return library + _join((*SHARED, "mask.js", "worker.js"))


def _library() -> str:
    """ONNX Runtime as the start of a classic script, in which a function gives what it exports.

    Browsers start no module from the text of a page that was opened from a disk.
    """
    text = _vendored(LIBRARY).decode("utf-8")
    found = _EXPORTS.search(text)
    if found is None:
        raise _missing(LIBRARY, "is not what was pinned")
    pairs = [pair.split(" as ") for pair in found[1].split(",")]
    names = {public.strip(): inner.strip() for inner, public in pairs}
    wanted = ", ".join(f"{name}: {names[name]}" for name in ("env", "InferenceSession", "Tensor"))
    classic = text[: found.start()].replace("import.meta.url", "self.location.href")
    return f"{classic}\nconst onnxruntime = () => ({{ {wanted} }});\n"


def _licences(*, remote: bool) -> str:
    own = "medseg: Apache License 2.0 (https://www.apache.org/licenses/LICENSE-2.0)"
    if remote:
        return own
    text = _source("onnxruntime-web-licence.txt", folder="")
    return (
        f"{own}\n\nONNX Runtime Web, which computes the masks "
        f"(https://github.com/microsoft/onnxruntime):\n\n{text.strip()}"
    )


def _join(names: Sequence[str]) -> str:
    return "\n".join(_source(name) for name in names)


def _source(name: str, *, package: str = "medseg.export.web", folder: str | None = None) -> str:
    place: Traversable = resources.files(package)
    if folder is None and package == "medseg.export.web":
        place = place.joinpath("page")
    return place.joinpath(name).read_text(encoding="utf-8")


def _vendored(name: str) -> bytes:
    file = resources.files("medseg.export.web").joinpath("vendor", name)
    if not file.is_file():
        raise _missing(name, "is not there")
    return file.read_bytes()


def _missing(name: str, found: str) -> MedsegError:
    return MedsegError(
        resources.files("medseg.export.web").joinpath("vendor", name),
        f"{found}: ONNX Runtime for browsers",
        "In a copy of the sources run `python tools/vendor_web.py`; else install medseg again",
    )


def _as_script(parts: Mapping[str, str]) -> str:
    return f"globalThis.medsegParts = {{ ...globalThis.medsegParts, ...{json.dumps(parts)} }};\n"


def _pack(content: str | bytes) -> str:
    data = content.encode() if isinstance(content, str) else content
    return _base64(gzip.compress(data, 9, mtime=0))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
