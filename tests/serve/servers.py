"""`medseg serve` as its own process, and what to ask it."""

from __future__ import annotations

import http.client
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper
from PIL import Image

from inference.builders import ORGANS, manifest_and_weights
from inference.graphs import IMAGES, MASKS, constant, graph, replaced, save_graph
from medseg.inference.bundle import write_bundle
from medseg.inference.runtime import IMAGE, MASK, PROBABILITIES

PREDICT = "/v1/predict"
JSON = {"Accept": "application/json"}
CARD = "# Bright things\n"


@dataclass(frozen=True)
class Reply:
    """What a server answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def detail(self) -> str:
        """Why a request was refused."""
        return str(self.json["detail"])

    @property
    def mask(self) -> NDArray[Any]:
        return np.asarray(Image.open(io.BytesIO(self.body)))


class Server:
    """A running `medseg serve`."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        assert process.stdout is not None
        self.process = process
        self.folder = folder
        line = process.stdout.readline()
        found = re.search(r"http://(\S+):(\d+)", line)
        assert found, f"it does not start: {line} {self.log}"
        self.host, self.port = found[1].strip("[]"), int(found[2])

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(encoding="utf-8")

    @property
    def leftovers(self) -> list[Path]:
        """Files in the server's folder for temporary files."""
        return [path for path in (self.folder / "tmp").rglob("*") if path.is_file()]

    def connect(self, timeout: float = 30) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.host, self.port, timeout=timeout)

    def ask(
        self,
        method: str,
        target: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        *,
        timeout: float = 30,
    ) -> Reply:
        """One request on a connection of its own."""
        connection = self.connect(timeout)
        try:
            connection.request(method, target, body, dict(headers or {}))
            answer = connection.getresponse()
            names = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, names, answer.read())
        finally:
            connection.close()

    def get(self, target: str, **headers: str) -> Reply:
        return self.ask("GET", target, headers=headers)

    def predict(
        self, data: bytes, query: str = "", headers: Mapping[str, str] | None = None
    ) -> Reply:
        return self.ask("POST", PREDICT + query, data, headers)

    def counted(self, name: str, **labels: str) -> float:
        """A number of ``/metrics``; 0 where it is not there yet."""
        inner = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
        wanted = f"{name}{{{inner}}} " if inner else f"{name} "
        lines = self.get("/metrics").body.decode().splitlines()
        return next((float(x.rpartition(" ")[2]) for x in lines if x.startswith(wanted)), 0.0)

    def wait_for(self, name: str, value: float, **labels: str) -> None:
        """Until a number of ``/metrics`` is at least ``value``."""
        until(lambda: self.counted(name, **labels) >= value)

    def stop(self) -> int:
        """End it as an administrator does; the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


def until(condition: Any, seconds: float = 20) -> None:
    """Wait for ``condition()``."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.02)


@contextmanager
def serving(folder: Path, *arguments: object, **environment: str) -> Iterator[Server]:
    """Run ``medseg serve ARGUMENTS`` on a free port."""
    (folder / "tmp").mkdir(parents=True)
    with (folder / "log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "medseg", "serve", *map(str, arguments), "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "TMPDIR": str(folder / "tmp"), **environment},
        )
    with process:
        try:
            yield Server(process, folder)
        finally:
            if process.poll() is None:
                process.kill()


def models(folder: Path) -> dict[str, Path]:
    """Three models made by hand: ``bright`` takes bright pixels for the object, ``organs`` knows
    a class for each channel, ``slow`` is ``bright`` after as much work as an image is wide."""
    folder.mkdir(parents=True, exist_ok=True)
    bright_path = folder / "bright.medseg"
    write_bundle(bright_path, *manifest_and_weights(), graph=graph(), card=CARD)
    organs = save_graph(
        folder / "organs.onnx",
        _channels(),
        outputs=(MASKS, (PROBABILITIES, TensorProto.FLOAT, ["n", 3, "h", "w"])),
        metadata=manifest_and_weights(ORGANS)[0],
    )
    slow = save_graph(folder / "slow.onnx", _slow(), inputs=(IMAGES,))
    return {"bright": bright_path, "organs": organs, "slow": slow}


def _channels() -> list[Any]:
    """The shares of red, green and blue for the probabilities of three classes."""
    return [
        constant("one", np.array(1, np.float32)),
        constant("axes", np.array([1], np.int64)),
        helper.make_node("Cast", [IMAGE], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Add", ["planes", "one"], ["positive"]),
        helper.make_node("ReduceSum", ["positive", "axes"], ["sum"]),
        helper.make_node("Div", ["positive", "sum"], [PROBABILITIES]),
        helper.make_node("ArgMax", [PROBABILITIES], ["largest"], axis=1, keepdims=0),
        helper.make_node("Cast", ["largest"], [MASK], to=TensorProto.UINT8),
    ]


def _slow() -> list[Any]:
    """:func:`bright` plus nothing, computed by multiplying matrices once for each column."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["go_on"]),
            helper.make_node("MatMul", ["before", "before"], ["product"]),
            helper.make_node("Clip", ["product", "nought", "unit"], ["after"]),
        ],
        "once",
        [
            value("step", TensorProto.INT64, []),
            value("going", TensorProto.BOOL, []),
            value("before", TensorProto.FLOAT, [128, 128]),
        ],
        [value("go_on", TensorProto.BOOL, []), value("after", TensorProto.FLOAT, [128, 128])],
    )
    return [
        constant("nought", np.array(0, np.float32)),
        constant("unit", np.array(1, np.float32)),
        constant("yes", np.array(True)),
        constant("two", np.array(2, np.int64)),
        constant("square", np.array([128, 128], np.int64)),
        helper.make_node("Shape", [IMAGE], ["shape"]),
        helper.make_node("Gather", ["shape", "two"], ["width"]),
        *replaced(PROBABILITIES),
        helper.make_node("ReduceMin", ["share"], ["least"], keepdims=0),
        helper.make_node("Mul", ["least", "nought"], ["none"]),
        helper.make_node("Expand", ["none", "square"], ["start"]),
        helper.make_node("Loop", ["width", "yes", "start"], ["end"], body=body),
        helper.make_node("ReduceMax", ["end"], ["extra"], keepdims=0),
        helper.make_node("Add", ["share", "extra"], ["sum"]),
        helper.make_node("Unsqueeze", ["sum", "axis"], [PROBABILITIES]),
    ]


def png(image: NDArray[Any], **options: Any) -> bytes:
    """An image file."""
    file = io.BytesIO()
    shown = image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image
    Image.fromarray(shown).save(file, options.pop("format", "PNG"), **options)
    return file.getvalue()
