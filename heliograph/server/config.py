"""What the operator says when the server starts. Numbers that bound strangers are in `limits.py`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Registration = Literal["invitation", "open"]


@dataclass(frozen=True, slots=True)
class Config:
    """One server's settings.

    `data` is the directory that holds everything; `domain` is fixed at the first start (None: as it stands, or
    "localhost"); `origins` are the browser origins that may call besides the server's own; `hosts` are the only
    names (with their ports) by which it answers, where any are given; `metrics_port` opens a loopback listener for
    Prometheus.
    """

    data: Path
    host: str = "127.0.0.1"
    port: int = 8470
    domain: str | None = None
    registration: Registration = "invitation"
    limits_file: Path | None = None
    checkpoint_interval_s: int = 60
    origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    metrics_port: int | None = None
