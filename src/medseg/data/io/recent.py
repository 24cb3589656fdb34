"""Decoded values kept for a while, because slices of a volume are read one by one."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

from medseg.errors import DataError

Value = TypeVar("Value")


class Recent(Generic[Value]):
    """The values asked for last, up to a number of bytes, and always the very last.

    Threads that ask for the same value wait for the one that makes it. A DataError is kept like a
    value, so that a damaged volume is not decoded again for each of its slices.

    Args:
        limit: in bytes.
        size: the bytes of a value.
    """

    def __init__(self, limit: int, size: Callable[[Value], int]) -> None:
        self._limit = limit
        self._size = size
        self._lock = threading.Lock()
        self._held: OrderedDict[Hashable, Future[Value]] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value of ``key``, from ``make`` if it is not held."""
        with self._lock:
            future = self._held.get(key)
            wanted = future is None
            if future is None:
                future = self._held[key] = Future()
            self._held.move_to_end(key)
        if wanted:
            try:
                future.set_result(make())
            except BaseException as error:
                if not isinstance(error, DataError):
                    with self._lock:
                        self._held.pop(key, None)
                future.set_exception(error)
            self._forget_oldest()
        return future.result()

    def _forget_oldest(self) -> None:
        with self._lock:
            sizes = {
                key: self._size(future.result())
                for key, future in self._held.items()
                if future.done() and future.exception() is None
            }
            total = sum(sizes.values())
            for key, size in list(sizes.items())[:-1]:
                if total <= self._limit:
                    return
                del self._held[key]
                total -= size
            while len(self._held) > _MAX_HELD:
                self._held.popitem(last=False)


_MAX_HELD = 1024
