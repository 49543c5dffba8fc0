"""Things to do later, on the monotonic clock. Owns no thread and no descriptor."""

from __future__ import annotations

import heapq
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Timer:
    """One thing to do at `when`; `cancel` makes it nothing."""

    __slots__ = ("_order", "act", "when")

    def __init__(self, when: float, order: int, act: Callable[[], None]) -> None:
        self.when = when
        self._order = order
        self.act: Callable[[], None] | None = act

    def cancel(self) -> None:
        """Do nothing when the time comes."""
        self.act = None

    def __lt__(self, other: Timer) -> bool:
        """Earlier first; equal times in the order of their making."""
        return (self.when, self._order) < (other.when, other._order)


class Timers:
    """The timers of one event loop."""

    def __init__(self) -> None:
        self._heap: list[Timer] = []
        self._made = 0

    def after(self, seconds: float, act: Callable[[], None]) -> Timer:
        """Do `act` in `seconds`."""
        self._made += 1
        timer = Timer(time.monotonic() + seconds, self._made, act)
        heapq.heappush(self._heap, timer)
        return timer

    def wait(self) -> float | None:
        """Seconds until the next one is due, None if there is none."""
        while self._heap and self._heap[0].act is None:
            heapq.heappop(self._heap)
        return max(0.0, self._heap[0].when - time.monotonic()) if self._heap else None

    def run_due(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        while self._heap and self._heap[0].when <= now:
            act = heapq.heappop(self._heap).act
            if act is not None:
                act()
