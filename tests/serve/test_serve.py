"""What clients get."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from commands import medseg
from data.builders import noise
from inference.builders import ORGANS, bundle
from serve.servers import CARD, JSON, PREDICT, Server, png, serving

IMAGE = noise(1, (30, 41))


@pytest.mark.parametrize("name", ["bright", "organs"])
@pytest.mark.parametrize(
    ("suffix", "pixels"),
    [
        (".png", IMAGE),
        (".png", noise(2, (5, 1), channels=1)),
        (".png", noise(3, (9, 8), channels=1).astype(np.uint16) * 257),
        (".tif", noise(4, (16, 17))),
        (".bmp", noise(5, (3, 64))),
        (".jpg", noise(6, (33, 20))),
    ],
)
def test_the_mask_is_the_file_that_predict_writes(
    server: Server, served: dict[str, Path], tmp_path: Path, name: str, suffix: str,
    pixels: np.ndarray,
) -> None:  # fmt: skip
    file = tmp_path / f"a{suffix}"
    Image.fromarray(pixels).save(file)
    ran = medseg("predict", served[name], file, "-o", tmp_path / "out", "--engine", "onnx")
    assert ran.code == 0, ran.err
    reply = server.predict(file.read_bytes(), f"?model={name}", {"Content-Type": "image/png"})
    assert (reply.status, reply.headers["content-type"]) == (200, "image/png")
    assert reply.body == (tmp_path / "out" / "a.png").read_bytes()


def test_a_form_gives_the_same_as_a_body(server: Server) -> None:
    data = png(IMAGE)
    form = (
        b'--x\r\nContent-Disposition: form-data; name="note"\r\n\r\nignored\r\n'
        b'--x\r\nContent-Disposition: form-data; name="image"; filename="../../jane doe.png"\r\n'
        b"Content-Type: image/png\r\n\r\n" + data + b"\r\n--x--\r\n"
    )
    as_form = {"Content-Type": "multipart/form-data; boundary=x"}
    posted = server.predict(form, "?model=bright", as_form)
    assert posted.status == 200
    assert posted.body == server.predict(data, "?model=bright").body


def test_an_upload_in_chunks_of_unknown_length_is_read(server: Server) -> None:
    data = png(IMAGE)
    parts = iter([data[:100], data[100:]])
    reply = server.ask("POST", f"{PREDICT}?model=bright", parts)
    assert reply.body == server.predict(data, "?model=bright").body


def test_json_tells_classes_and_the_mask(server: Server) -> None:
    found = server.predict(png(IMAGE), "?model=organs&spacing=0.5,2", JSON).json
    classes = np.asarray(Image.open(io.BytesIO(base64.b64decode(found["mask"]))))
    assert np.array_equal(classes, IMAGE.argmax(axis=2))
    assert (found["model"], found["width"], found["height"]) == ("organs", 41, 30)
    assert found["milliseconds"] > 0
    assert [(each["name"], each["index"], each["value"]) for each in found["classes"]] == [
        ("liver", 1, 10), ("vein", 2, 1000),
    ]  # fmt: skip
    positive = IMAGE.astype(float) + 1
    shares = positive / positive.sum(axis=2, keepdims=True)
    for each in found["classes"]:
        inside = classes == each["index"]
        assert each["pixels"] == inside.sum()
        assert each["share"] == pytest.approx(inside.mean())
        assert each["area_mm2"] == pytest.approx(inside.sum() * 0.5 * 2)
        assert each["confidence"] == pytest.approx(shares[inside, each["index"]].mean(), abs=1e-5)
        assert len(each["colour"]) == 7


def test_contours_run_along_the_edges_of_pixels(server: Server) -> None:
    image = np.zeros((6, 8, 3), np.uint8)
    image[1:4, 2:7] = 255
    (found,) = server.predict(png(image), "?model=bright", JSON).json["classes"]
    assert found["contours"] == [[[2, 1], [7, 1], [7, 4], [2, 4]]]


def test_what_is_not_there_has_neither_confidence_nor_contours(server: Server) -> None:
    black = png(np.zeros((6, 8, 3), np.uint8))
    (found,) = server.predict(black, "?model=bright", JSON).json["classes"]
    assert (found["pixels"], found["confidence"], found["contours"]) == (0, None, [])
    assert found["area_mm2"] is None


def test_a_threshold_moves_the_border_of_a_binary_mask(server: Server) -> None:
    grey = noise(7, channels=1)
    for threshold in (0.25, 0.75):
        reply = server.predict(png(grey), f"?model=bright&threshold={threshold}")
        assert np.array_equal(reply.mask == 255, grey / np.float32(255) >= threshold)


def test_averaging_over_flips_is_what_predict_does(
    server: Server, served: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(png(IMAGE))
    options = ("--engine", "onnx", "--tta")
    medseg("predict", served["organs"], tmp_path / "a.png", "-o", tmp_path / "out", *options)
    reply = server.predict(png(IMAGE), "?model=organs&tta=true")
    assert reply.body == (tmp_path / "out" / "a.png").read_bytes()


@pytest.mark.parametrize(
    ("query", "status", "said"),
    [
        ("", 422, "bright, organs, slow"),
        ("?model=liver", 404, "bright, organs, slow"),
        ("?model=../../etc/passwd", 404, "known:"),
        ("?model=organs&threshold=0.3", 422, "threshold"),
        ("?model=bright&threshold=1", 422, "threshold"),
        ("?model=bright&threshold=nan", 422, "threshold"),
        ("?model=bright&tta=perhaps", 422, "tta"),
        ("?model=bright&spacing=1,2,3", 422, "spacing"),
        ("?model=bright&spacing=0", 422, "spacing"),
    ],
)
def test_a_wrong_option_is_named(server: Server, query: str, status: int, said: str) -> None:
    reply = server.predict(png(IMAGE), query)
    assert reply.status == status
    assert said in reply.detail


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "image/png"),
        ("text/html, image/*;q=0.5", "image/png"),
        ("application/json", "application/json"),
        ("image/png;q=0.1, application/json;q=0.9", "application/json"),
        ("application/*", "application/json"),
    ],
)
def test_the_answer_is_of_the_type_that_the_client_prefers(
    server: Server, accept: str, kind: str
) -> None:
    reply = server.predict(png(IMAGE), "?model=bright", {"Accept": accept})
    assert (reply.status, reply.headers["content-type"]) == (200, kind)


@pytest.mark.parametrize("accept", ["text/html", "image/png;q=0", "application/json;q=x.y.z"])
def test_types_that_there_are_not_are_not_acceptable(server: Server, accept: str) -> None:
    reply = server.predict(png(IMAGE), "?model=bright", {"Accept": accept})
    assert reply.status == (200 if "x.y.z" in accept else 406)


def test_models_are_listed(server: Server) -> None:
    bright, organs, slow = server.get("/v1/models").json["models"]
    assert (bright["name"], organs["name"], slow["name"]) == ("bright", "organs", "slow")
    assert bright["card"] == CARD
    # A graph has no card in it; what its manifest says makes one.
    assert organs["card"].startswith("# med2d-segnet trained on noise")
    assert (bright["engine"], bright["binary"], organs["binary"]) == ("onnx", True, False)
    assert [each["name"] for each in organs["labels"]] == ["background", "liver", "vein"]
    assert bright["max_pixels"] == 25_000_000


def test_the_only_model_need_not_be_named(strict: Server) -> None:
    assert strict.predict(png(IMAGE)).status == 200


def test_the_page_loads_and_asks_nothing_but_this_service(server: Server) -> None:
    reply = server.get("/")
    assert reply.headers["content-type"].startswith("text/html")
    policy = reply.headers["content-security-policy"]
    assert "connect-src 'self'" in policy
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert b"bright" in reply.body


def test_the_documentation_loads_nothing(server: Server) -> None:
    reply = server.get("/docs")
    text = reply.body.decode()
    assert "POST /v1/predict" in text
    assert "threshold" in text
    assert "src=" not in text
    assert reply.headers["content-security-policy"].startswith("default-src 'none'; style-src 's")


@pytest.mark.parametrize("path", ["/healthz", "/nowhere", "/metrics", "/openapi.json"])
def test_every_answer_has_the_headers_that_keep_browsers_careful(server: Server, path: str) -> None:
    headers = server.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert "server" not in headers


@pytest.mark.parametrize(
    "path",
    ["/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/..%2f..%2fetc%2fpasswd", "//etc/passwd",
     "/v1/../../etc/passwd", "/\\etc\\passwd"],
)  # fmt: skip
def test_no_path_leads_to_files(server: Server, path: str) -> None:
    reply = server.get(path)
    assert (reply.status, reply.detail) == (404, "Not Found")


def test_a_web_page_elsewhere_cannot_ask_by_its_own_name(server: Server) -> None:
    assert server.get("/v1/models", Host="evil.example:80").status == 421
    assert server.get("/v1/models", Host=f"localhost:{server.port}").status == 200
    assert "access-control-allow-origin" not in server.get("/", Origin="http://x.example").headers


def test_metrics_count_requests_by_status_and_batches(server: Server) -> None:
    label = {"route": PREDICT, "status": "404"}
    before = server.counted("medseg_requests_total", **label)
    batches = server.counted("medseg_batch_size_count")
    server.predict(b"x", "?model=none")
    server.predict(png(IMAGE), "?model=bright")
    assert server.counted("medseg_requests_total", **label) == before + 1
    assert server.counted("medseg_batch_size_count") == batches + 1
    assert server.counted("medseg_queue_length") == 0
    assert server.counted("medseg_requests_in_flight") == 1  # this one


def test_neither_images_nor_names_are_logged_or_left_behind(server: Server) -> None:
    server.get("/jane-doe.png?patient=jane-doe")
    server.predict(png(IMAGE), "?model=jane-doe")
    form = b'--x\r\nContent-Disposition: form-data; name="image"; filename="jane-doe.png"\r\n\r\n'
    large = noise(8, (1500, 900))  # more than Starlette keeps in memory
    server.predict(
        form + png(large) + b"\r\n--x--\r\n", "?model=bright",
        {"Content-Type": "multipart/form-data; boundary=x", "Cookie": "jane-doe"},
    )  # fmt: skip
    server.ask("JANE-DOE", "/healthz")
    assert f"POST {PREDICT} 404" in server.log
    assert f"POST {PREDICT} 200" in server.log
    assert "GET other 404" in server.log
    assert "jane" not in server.log.lower()
    assert server.leftovers == []


def test_a_token_is_asked_for_and_nothing_else_opens(
    served: dict[str, Path], tmp_path: Path
) -> None:
    token = "s3cret-Token"
    with serving(tmp_path / "s", served["bright"], "--host", "0.0.0.0", MEDSEG_TOKEN=token) as it:
        it.host = "127.0.0.1"
        for headers in (
            {}, {"Authorization": token}, {"Authorization": "Bearer"},
            {"Authorization": f"Bearer {token}x"}, {"Authorization": f"Basic {token}"},
            {"Authorization": "Bearer \xe9"},
        ):  # fmt: skip
            reply = it.predict(png(IMAGE), headers=headers)
            assert (reply.status, reply.headers["www-authenticate"]) == (401, "Bearer")
            assert it.get("/v1/models", **headers).status == 401
            assert it.get("/metrics", **headers).status == 401
        right = {"Authorization": f"Bearer {token}"}
        assert it.predict(png(IMAGE), headers=right).status == 200
        assert it.get("/v1/models", Host="medseg.hospital.example", **right).status == 200
        assert it.get("/healthz").status == 200
        page = it.get("/")
        assert page.status == 200
        assert CARD.strip("# \n").encode() not in page.body
        assert token not in it.log


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_other_machines_are_let_in_only_with_a_token(
    served: dict[str, Path], monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.delenv("MEDSEG_TOKEN", raising=False)
    ran = medseg("serve", served["bright"], "--host", host)
    assert ran.code == 2
    assert "MEDSEG_TOKEN" in ran.message


@pytest.mark.parametrize("token", ["", "two words", "schlüssel"])
def test_a_token_that_no_header_can_hold_is_refused(served: dict[str, Path], token: str) -> None:
    ran = medseg("serve", served["bright"], "--token", token)
    assert ran.code == 2
    assert "--token" in ran.message


def test_a_bundle_without_a_graph_is_computed_by_pytorch(tmp_path: Path) -> None:
    model = bundle(tmp_path / "weights.medseg", ORGANS)
    files = [tmp_path / f"{seed}.png" for seed in range(6)]
    for seed, file in enumerate(files):
        file.write_bytes(png(noise(seed, (30 + seed, 41))))
    ran = medseg("predict", model, *files, "-o", tmp_path / "out")
    assert ran.code == 0, ran.err
    with serving(tmp_path / "s", model) as server, ThreadPoolExecutor(6) as pool:
        assert server.get("/v1/models").json["models"][0]["engine"] == "torch"
        replies = list(pool.map(lambda file: server.predict(file.read_bytes()), files))
    for file, reply in zip(files, replies, strict=True):
        assert reply.body == (tmp_path / "out" / file.name).read_bytes()


def test_two_models_of_one_name_are_refused(served: dict[str, Path], tmp_path: Path) -> None:
    other = tmp_path / "bright.medseg"
    other.write_bytes(served["bright"].read_bytes())
    ran = medseg("serve", served["bright"], other, "--port", 0)
    assert ran.code == 2
    assert "bright, too" in ran.message


def test_a_port_in_use_is_named(served: dict[str, Path], server: Server) -> None:
    ran = medseg("serve", served["bright"], "--port", server.port)
    assert ran.code == 2
    assert f"--port: cannot listen at 127.0.0.1:{server.port}" in ran.message


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    ran = medseg("serve", tmp_path / "none.medseg", "--port", 0)
    assert ran.code == 2
    assert "none.medseg" in ran.message


def test_nothing_of_it_needs_pytorch_or_scipy(served: dict[str, Path]) -> None:
    script = (
        "import sys, json, medseg.serve.server as s, medseg.serve.decoder;"
        "from pathlib import Path;"
        "s.load_models([Path(x) for x in sys.argv[1:]], threads=1);"
        "print(json.dumps(sorted({'torch', 'scipy', 'matplotlib'} & sys.modules.keys())))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, *map(str, served.values())],
        capture_output=True, text=True, check=True, env=dict(os.environ),
    )  # fmt: skip
    assert json.loads(ran.stdout) == []
