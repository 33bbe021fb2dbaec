"""What every handler is given: the server's parts, with time and randomness among them."""

from collections.abc import Callable
from dataclasses import dataclass

from heliograph.server.admission import Admission
from heliograph.server.auth import Sessions, Tickets
from heliograph.server.bus.wakeups import Wakeups
from heliograph.server.config import Config
from heliograph.server.db.database import Database
from heliograph.server.limits import Limits
from heliograph.server.metrics import Metrics
from heliograph.server.secrets import Secrets


@dataclass(frozen=True, slots=True)
class Context:
    """One running server. `now_ms` and `random` are its only clock and its only source of randomness."""

    config: Config
    limits: Limits
    database: Database
    wakeups: Wakeups
    now_ms: Callable[[], int]
    random: Callable[[int], bytes]
    secrets: Secrets
    metrics: Metrics
    sessions: Sessions
    tickets: Tickets
    admission: Admission
    incarnation: str
    domain: str
