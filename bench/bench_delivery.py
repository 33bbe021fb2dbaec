"""What a sealed, stamped, durable message costs the server, beside a relay that only forwards the same frames.

Two loads, each put on both contenders in turn:

    talk      64 senders in 32 rooms of two, each with one message under way: acknowledged, then the next
    fan-out   one sender in a room of 100, all of them connected

Both contenders get the same frames (a 500-byte sealed message each), answer each to its sender, and write it to every
socket of its room, the sender's own among them. What is measured is the processor time, user and system, that the
contender's process spent, over the messages (talk) or the deliveries (fan-out) that it made.
"""

import asyncio
import itertools
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Protocol

import uvloop

from bench.report import Figure, at_most, main, seen, take_turns
from bench.relay_process import RelayLine, RelayProcess
from heliograph.client.transport import Stream
from heliograph.wire.events import Accepted, ReceivedEntries, Refused, Submit
from heliograph.wire.ids import RoomId
from heliograph.wire.problems import Problem
from tests.faults.people import Person, open_room, people, submission
from tests.faults.server_process import ServerProcess, generous_limits_file, serving
