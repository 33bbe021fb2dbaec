"""A store of complete nodes in memory: what a log's database is to it."""

from collections.abc import Iterable

from heliograph.tlog.log import Log, Node


class Nodes:
    """Keep the nodes that `Log.append` returns and read them back by level and index."""

    def __init__(self) -> None:
        self.hashes: dict[tuple[int, int], bytes] = {}

    def store(self, nodes: Iterable[Node]) -> None:
        for node in nodes:
            assert (node.level, node.index) not in self.hashes, "a complete node is made once"
            self.hashes[node.level, node.index] = node.hash

    def read(self, level: int, index: int) -> bytes:
        return self.hashes[level, index]


def entries(count: int) -> list[bytes]:
    """Return `count` different entries."""
    return [b"entry %d" % number for number in range(count)]


def grown(count: int) -> tuple[Log, Nodes]:
    """Return a log of `count` entries and the nodes it stored."""
    nodes = Nodes()
    log, new = Log().append(entries(count))
    nodes.store(new)
    return log, nodes
