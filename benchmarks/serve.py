"""What serving many clients at a time gains over one image after the other.

    python benchmarks/serve.py DATA

The same images are sent to `medseg serve` one after the other and by 32 clients at a time, to a
service that computes one image with all cores (``--workers 1``) and to one that computes as many
images as there are cores (the default). All take turns within this run.
"""

from __future__ import annotations

import http.client
import itertools
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from common import RESULTS, random_model, save
from medseg.data.layouts import open_dataset
from medseg.export.graph import to_onnx
from medseg.inference.runtime import IMAGE, MASK, open_session

SIZE, CLIENTS, IMAGES, ROUNDS = 256, 32, 32, 3
BATCHES = (1, 2, 4, 8)


@contextmanager
def service(graph: Path, *options: str) -> Iterator[int]:
    """The port of a running `medseg serve`."""
    fixed = ("--port", "0", "--timeout", "600")
    command = [sys.executable, "-m", "medseg", "serve", str(graph), *fixed, *options]
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        found = re.search(r":(\d+) ", process.stdout.readline())
        assert found is not None
        yield int(found[1])
        process.terminate()


def answered(port: int, images: Sequence[bytes], clients: int) -> tuple[float, list[bytes]]:
    """Images a second, and the masks; ``clients`` of them are waited for at any time."""
    masks: list[bytes] = [b""] * len(images)
    numbers = itertools.count()

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        while (number := next(numbers)) < len(images):
            connection.request("POST", "/v1/predict", images[number])
            reply = connection.getresponse()
            content = reply.read()
            masks[number] = content if reply.status == 200 else b""
        connection.close()

    threads = [threading.Thread(target=client) for _ in range(clients)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(images) / (time.perf_counter() - started), masks


def stacked(graph: bytes) -> dict[str, float]:
    """CPU milliseconds per image of one thread, by the number of images in a call."""
    session = open_session(graph, threads=1)
    images = np.random.default_rng(0).integers(0, 256, (max(BATCHES), SIZE, SIZE, 3), np.uint8)
    best = dict.fromkeys(BATCHES, float("inf"))
    for _ in range(ROUNDS):
        for size in BATCHES:
            started = time.thread_time()
            session.run([MASK], {IMAGE: images[:size]})
            best[size] = min(best[size], (time.thread_time() - started) / size)
    return {str(size): round(1000 * seconds, 1) for size, seconds in best.items()}


def main() -> None:
    cases = open_dataset(Path(sys.argv[1])).cases
    files = [case.image.files[0] for case in itertools.islice(itertools.cycle(cases), IMAGES)]
    images = [file.read_bytes() for file in files]
    content = to_onnx(random_model("med2d-segnet", SIZE))
    speeds: dict[str, list[float]] = {
        "one_image_on_all_cores_1_client": [],
        f"one_image_on_all_cores_{CLIENTS}_clients": [],
        "an_image_a_core_1_client": [],
        f"an_image_a_core_{CLIENTS}_clients": [],
    }
    lost, expected = 0, None
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder) / "model.onnx"
        graph.write_bytes(content)
        with service(graph, "--workers", "1") as wide, service(graph) as narrow:
            plan = zip(speeds, itertools.product((wide, narrow), (1, CLIENTS)), strict=True)
            for _, (name, (port, clients)) in itertools.product(range(ROUNDS), list(plan)):
                speed, masks = answered(port, images, clients)
                speeds[name].append(round(speed, 2))
                expected = expected or masks
                lost += masks.count(b"")
                assert masks == expected, "a mask depends on what else is computed"
    many = statistics.median(list(speeds.values())[-1])
    save(
        RESULTS / "serve.json",
        {
            "setting": {
                "network": "med2d-segnet", "image_size": SIZE, "images": IMAGES,
                "clients": CLIENTS, "rounds": ROUNDS,
            },
            "images_per_second": speeds,
            "ratio_of_32_clients_to": {
                name: round(many / statistics.median(each), 3)
                for name, each in list(speeds.items())[:-1]
            },
            "requests_lost": lost,
            "masks": "bit-equal in all of them",
            "cpu_milliseconds_per_image_by_batch": stacked(content),
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
