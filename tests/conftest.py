"""One thread for PyTorch, also in subprocesses: for arrays as small as those of the tests, several
threads are slower, and very much so on a busy machine."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
