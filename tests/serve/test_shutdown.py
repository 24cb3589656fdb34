from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from serve.servers import PREDICT, png, serving

WIDE = png(np.full((1, 8_000, 3), 200, np.uint8))


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_stopping_answers_what_runs_and_what_waits_and_lets_nobody_else_in(
    served: dict[str, Path], tmp_path: Path, sign: signal.Signals
) -> None:
    with serving(tmp_path / "s", served["slow"], "--workers", 1) as server:
        with ThreadPoolExecutor(3) as pool:
            running = [pool.submit(server.predict, WIDE) for _ in range(3)]
            server.wait_for("medseg_batch_size_count", 1)
            server.wait_for("medseg_queue_length", 2)
            threading.Timer(0.1, server.process.send_signal, [sign]).start()
            assert [each.result().status for each in running] == [200] * 3
        assert server.process.wait(20) == 0
        with pytest.raises(ConnectionRefusedError):
            server.get("/healthz")
    assert server.log.count(f"POST {PREDICT} 200") == 3
    assert "ERROR" not in server.log
    assert server.leftovers == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_decoders_end_with_a_server_that_is_killed(served: dict[str, Path], tmp_path: Path) -> None:
    import psutil

    with serving(tmp_path / "s", served["bright"], "--workers", 2) as server:
        children = psutil.Process(server.process.pid).children()
        assert len(children) == 2
        server.process.kill()
        server.process.wait()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []
