"""Work in the background that is asked for now and then: a thread begins with it, and ends when it is done."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Errand:
    """Work for one thread at a time. `work` does some, and returns in how many seconds to go on; None when it is done.

    `first` is how many seconds pass from the request to the beginning, and `again` those from the end to the next
    beginning, where it was asked for meanwhile.
    """

    def __init__(
        self, name: str, work: Callable[[], float | None], first: float = 0.0, again: float = 0.0
    ) -> None:
        self._name = name
        self._work = work
        self._first = first
        self._again = again
        self._lock = threading.RLock()  # a signal handler may come in the midst of it
        self._asked = False
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()

    @property
    def pending(self) -> bool:
        """Whether it is still to be done."""
        return self._thread is not None

    def ask(self) -> None:
        """Have it done, once more if it is being done. Nothing once it is closed."""
        with self._lock:
            self._asked = True
            if self._thread is not None or self._closing.is_set():
                return
            self._thread = thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            try:
                thread.start()
            except BaseException:  # also an interrupt, before or after it has begun
                if thread.ident is None:
                    self._thread = None
                raise

    def close(self) -> None:
        """The thread has ended, whether it was done or not."""
        with self._lock:
            self._closing.set()
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        with self._lock:  # an interrupt of who started it may have come before that was known
            self._thread = self._thread or threading.current_thread()
            if self._thread is not threading.current_thread():
                return
        try:
            pause = self._first
            while not self._closing.wait(pause):
                self._asked = False
                then = self._work()
                with self._lock:
                    if then is None and not self._asked:
                        self._thread = None
                        return
                pause = self._again if then is None else then
        finally:
            with self._lock:
                if self._thread is threading.current_thread():
                    self._thread = None
