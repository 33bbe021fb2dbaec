"""Write tests/interop/vectors anew: stories with ts-mls as one of our members heard them.

    python -m tests.interop.write_vectors

The stories are those of the seeds below; their bytes differ with every run, since ts-mls draws from its own source.
"""

import json
import random
import sys
from typing import Any

from tests.interop import recorded
from tests.interop.peer import Peer, why_absent
from tests.interop.scripts import Story

# Cipher suite -> seeds whose stories together have most of what can happen. Post-quantum messages are long: two do.
SEEDS = {0x0001: (14, 44, 48), 0x0002: (14, 44, 48), 0x0003: (14, 44, 48), 0xF04E: (2, 31)}


def main() -> None:
    if reason := why_absent():
        sys.exit(reason)
    recorded.FOLDER.mkdir(exist_ok=True)
    with Peer() as peer:
        for suite_id, seeds in SEEDS.items():
            cases = [record(seed, suite_id, peer) for seed in seeds]
            text = json.dumps(cases, indent=0, separators=(",", ":"))
            recorded.file_of(suite_id).write_text(text + "\n", "utf-8")


def record(seed: int, suite_id: int, peer: Peer) -> dict[str, Any]:
    """Return what the listener of one story heard."""
    listener = recorded.Listener("listener", suite_id, random.Random(seed + 2).randbytes)
    Story(seed, suite_id, peer, listener).tell()
    return listener.finished(seed)


if __name__ == "__main__":
    main()
