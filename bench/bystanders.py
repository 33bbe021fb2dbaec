"""How much of the machine others took while a bench ran: what was measured among them is worth less.

A server's work is bound to its memory, so a neighbour costs it cache as well as time: on two busy cores the same
message has been seen to cost half as much again.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

_STAT = Path("/proc/stat")
_IDLE_COLUMNS = (3, 4)  # idle, iowait
_BUSY_COLUMNS = 8  # up to steal; guest time is counted in user time already


class Bystanders:
    """Counts from its making on; `own_cpu_s` tells the processor time of everything that belongs to the bench."""

    def __init__(self, own_cpu_s: Callable[[], float]) -> None:
        self._own_cpu_s = own_cpu_s
        self._began = time.perf_counter(), _busy_s(), own_cpu_s()

    def share_percent(self) -> float:
        """Return the share of all processor time that others have taken since."""
        began_s, busy_s, own_s = self._began
        elapsed_s = (time.perf_counter() - began_s) * (os.cpu_count() or 1)
        others_s = _busy_s() - busy_s - (self._own_cpu_s() - own_s)
        return 100 * max(0.0, others_s) / elapsed_s


def _busy_s() -> float:
    """The time that all processors together have been busy; 0 where the system does not tell."""
    if not _STAT.exists():
        return 0.0
    columns = [int(word) for word in _STAT.read_text(encoding="ascii").splitlines()[0].split()[1:]][:_BUSY_COLUMNS]
    busy = sum(ticks for column, ticks in enumerate(columns) if column not in _IDLE_COLUMNS)
    return busy / os.sysconf("SC_CLK_TCK")
