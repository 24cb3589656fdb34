"""More than there is room for, and clients who are slow or leave."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from data.builders import noise
from serve.servers import PREDICT, Reply, Server, png, serving, until


def wide(columns: int) -> bytes:
    """An image that `slow` takes some 40 microseconds a column for."""
    return png(np.full((1, columns, 3), 200, np.uint8))


def raw(server: Server, data: bytes, timeout: float = 30) -> bytes:
    """What is answered to bytes as they are, until the connection ends."""
    with socket.create_connection((server.host, server.port), timeout=timeout) as connection:
        connection.sendall(data)
        answer = b""
        while part := connection.recv(65536):
            answer += part
        return answer


def test_an_upload_that_says_it_is_too_large_is_not_read(strict: Server) -> None:
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000000\r\n"
    began = time.monotonic()
    answer = raw(strict, f"{head}Expect: 100-continue\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 413")
    assert time.monotonic() - began < 1.9


@pytest.mark.parametrize("declared", [True, False])
def test_an_upload_beyond_the_limit_is_cut_and_the_client_told(
    strict: Server, declared: bool
) -> None:
    data = bytes(150_000)
    body = data if declared else iter([data[:70_000], data[70_000:]])
    reply = strict.ask("POST", PREDICT, body)
    assert reply.status == 413
    assert "0.1 MB" in reply.detail


def test_an_image_of_too_many_pixels_is_refused(strict: Server) -> None:
    reply = strict.predict(png(np.zeros((200, 200, 3), np.uint8)))
    assert reply.status == 413
    assert "30,000" in reply.detail


def test_an_answer_that_takes_too_long_is_given_up(served: dict[str, Path], tmp_path: Path) -> None:
    with serving(tmp_path / "s", served["slow"], "--workers", 1, "--timeout", 0.3) as impatient:
        reply = impatient.predict(wide(20_000))
        assert reply.status == 504
        assert "0.3 s" in reply.detail


def test_when_too_many_wait_others_are_told_when_to_come_back(strict: Server) -> None:
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: strict.predict(wide(1_500)), range(8)))
    by_status = {status: [r for r in replies if r.status == status] for status in (200, 429)}
    assert len(by_status[200]) + len(by_status[429]) == 8
    assert len(by_status[200]) >= 2
    assert by_status[429]
    assert all(int(reply.headers["retry-after"]) >= 1 for reply in by_status[429])
    assert strict.predict(wide(1)).status == 200


def test_every_one_of_many_clients_gets_the_mask_of_its_own_image(server: Server) -> None:
    images = [noise(seed, (9 + seed % 3, 20)) for seed in range(32)]

    def masks(image: np.ndarray) -> Reply:
        return server.predict(png(image), "?model=bright")

    alone = [masks(image).body for image in images]
    with ThreadPoolExecutor(32) as pool:
        together = list(pool.map(masks, images))
    assert [reply.status for reply in together] == [200] * 32
    assert [reply.body for reply in together] == alone


def test_a_client_who_leaves_the_queue_is_not_computed(
    served: dict[str, Path], tmp_path: Path
) -> None:
    with serving(tmp_path / "s", served["slow"], "--workers", 1) as one:
        batches = one.counted("medseg_batch_size_count")
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(one.predict, wide(16_000))
            one.wait_for("medseg_batch_size_count", batches + 1)
            leavers = [_begun(one, wide(16_000)) for _ in range(5)]
            one.wait_for("medseg_queue_length", 5)
            for connection in leavers:
                connection.close()
            one.wait_for("medseg_requests_total", 5, route=PREDICT, status="499")
            assert running.result().status == 200
        assert one.predict(wide(1)).status == 200
        assert one.counted("medseg_batch_size_count") == batches + 2


def _begun(server: Server, image: bytes) -> socket.socket:
    """A connection on which a whole request has been sent."""
    connection = socket.create_connection((server.host, server.port), timeout=30)
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(image)}\r\n\r\n"
    connection.sendall(head.encode() + image)
    return connection


def test_a_client_who_leaves_in_mid_upload_costs_nothing(server: Server) -> None:
    gone = server.counted("medseg_requests_total", route=PREDICT, status="499")
    image = png(noise(1, (90, 90)))
    with socket.create_connection((server.host, server.port)) as connection:
        head = f"POST {PREDICT}?model=bright HTTP/1.1\r\nHost: localhost\r\n"
        connection.sendall(f"{head}Content-Length: {len(image)}\r\n\r\n".encode() + image[:500])
    server.wait_for("medseg_requests_total", gone + 1, route=PREDICT, status="499")


def test_an_upload_that_drips_is_ended(strict: Server) -> None:
    began = time.monotonic()
    with socket.create_connection((strict.host, strict.port), timeout=30) as connection:
        head = f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50000\r\n\r\n"
        connection.sendall(head.encode())
        answer = b""
        connection.settimeout(0.1)
        while not answer:
            connection.sendall(b"x")
            try:
                answer = connection.recv(65536)
            except TimeoutError:
                assert time.monotonic() - began < 15
    assert answer.startswith(b"HTTP/1.1 408")


@pytest.fixture
def hurried(
    served: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Server]:
    """A server that waits a second, not ten, for the head of a request, and holds 8
    connections."""
    patch = tmp_path / "sitecustomize.py"
    patch.write_text(
        "import medseg.serve.limits as limits\n"
        "limits.HEADER_SECONDS, limits.MAX_CONNECTIONS = 1.0, 8\n"
    )
    with serving(tmp_path / "s", served["bright"], PYTHONPATH=str(tmp_path)) as running:
        yield running


@pytest.mark.parametrize("sent", ["", "GET /healthz HT", "GET /healthz HTTP/1.1\r\nX: "])
def test_a_head_that_never_ends_is_not_waited_for(hurried: Server, sent: str) -> None:
    with socket.create_connection((hurried.host, hurried.port), timeout=10) as connection:
        stop = threading.Event()

        def drip() -> None:
            for letter in sent + "x" * 100:
                if stop.wait(0.1):
                    return
                try:
                    connection.sendall(letter.encode())
                except OSError:
                    return

        thread = threading.Thread(target=drip)
        if sent:
            thread.start()
        try:
            assert connection.recv(100) == b""
        except ConnectionError:
            pass
        finally:
            stop.set()
            if sent:
                thread.join()


def test_connections_that_do_nothing_keep_nobody_out_for_long(hurried: Server) -> None:
    idle = [socket.create_connection((hurried.host, hurried.port)) for _ in range(12)]

    def answers() -> bool:
        try:
            return hurried.get("/healthz").status == 200
        except OSError:
            return False

    try:
        until(answers, 10)
    finally:
        for connection in idle:
            connection.close()


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n"
        b"Content-Length: 2\r\n\r\n",
        b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_not_http_is_answered_with_400(server: Server, request_bytes: bytes) -> None:
    answer = raw(server, request_bytes)
    assert answer.startswith(b"HTTP/1.1 400")
    assert server.get("/healthz").status == 200
