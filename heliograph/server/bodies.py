"""What request bodies may cost while they come in and are worked on: bytes in all, and how many one payer lets wait.

A body of eight megabytes is allowed, and so are a thousand requests at once, but not both together. And who sends a
head and then nothing keeps a place that others need: of those places each payer gets a few.
"""

from heliograph.wire.problems import Problem


class Bodies:
    """The bodies in one process's memory."""

    def __init__(self, size_limit_bytes: int, waiting_limit: int) -> None:
        self.size_bytes = 0
        self._size_limit_bytes = size_limit_bytes
        self._waiting_limit = waiting_limit
        self._waiting: dict[str | bytes, int] = {}

    def begin(self, payer: str | bytes) -> None:
        """Count a body that the payer has announced; `end` must follow.

        Raises:
            Problem: `too-many-requests`.
        """
        waiting = self._waiting.get(payer, 0)
        if waiting >= self._waiting_limit:
            raise Problem("too-many-requests", "send the bodies of your other requests first", retry_after_s=1)
        self._waiting[payer] = waiting + 1

    def end(self, payer: str | bytes) -> None:
        """Count a body no more: it has come, or will not."""
        waiting = self._waiting[payer] - 1
        if waiting:
            self._waiting[payer] = waiting
        else:
            del self._waiting[payer]

    def take(self, size_bytes: int) -> None:
        """Make place for more of a body; `give_back` must follow when the request has ended.

        Raises:
            Problem: `overloaded`.
        """
        if self.size_bytes + size_bytes > self._size_limit_bytes:
            raise Problem("overloaded", "too much is being sent at once: try again", retry_after_s=1)
        self.size_bytes += size_bytes

    def give_back(self, size_bytes: int) -> None:
        """Let go of what `take` took."""
        self.size_bytes -= size_bytes
