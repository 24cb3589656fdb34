"""Start-up time of the verbs that need neither torch nor scipy.

python benchmarks/startup.py RUN
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from common import RESULTS, save

ROUNDS = 9


def seconds(arguments: list[str]) -> float:
    """Median wall time of `medseg ARGUMENTS`."""
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "medseg", *arguments], check=True, capture_output=True
        )
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def main() -> None:
    verbs = {
        "medseg --help": ["--help"],
        "medseg info RUN": ["info", sys.argv[1]],
        "medseg systems list": ["systems", "list"],
    }
    empty = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", ""], check=True)
        empty.append(time.perf_counter() - started)
    save(
        RESULTS / "startup.json",
        {
            "python -c ''": round(statistics.median(empty), 3),
            **{name: round(seconds(arguments), 3) for name, arguments in verbs.items()},
        },
    )


if __name__ == "__main__":
    main()
