"""How often our library really calls its primitives, to hold the formulas of `mls_primitives` against.

A formula that asked for too much would make us look fast. So the story is played once more in a small group, with a
profile function that sees every call, and for each operation the calls are counted by kind. What our library calls more
often than a formula says is work that the protocol does not ask for; less often would mean that the formula is wrong.
"""

import sys
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import TypeVar

from bench.mls_primitives import calls
from bench.mls_story import Story, Told
from heliograph.mls.kdf import hkdf_expand, hkdf_extract
from heliograph.mls.suite import CipherSuite

Result = TypeVar("Result")

_DERIVE = CipherSuite.derive_key_pair.__code__
_KINDS: Mapping[CodeType, str] = {
    CipherSuite.sign_with_label.__code__: "sign",
    CipherSuite.verify_with_label.__code__: "verify",
    CipherSuite.encrypt_with_label.__code__: "seal",
    CipherSuite.decrypt_with_label.__code__: "open",
    CipherSuite.validate_hpke_public_key.__code__: "read",
    CipherSuite.hash.__code__: "hash",
    CipherSuite.mac.__code__: "hmac",
    CipherSuite.seal.__code__: "aead",
    CipherSuite.open.__code__: "aead",
    hkdf_extract.__code__: "hmac",
    hkdf_expand.__code__: "hmac",
    _DERIVE: "derive",
}


class _Counted(Told):
    """A story whose operations are counted instead of timed."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[str, Counter[str]] = {}

    def timed(self, operation: str, act: Callable[[], Result]) -> Result:
        """Do something, and remember which primitives it called."""
        with _counting() as counted:
            result = act()
        self.calls[operation] = counted
        return result


def differences(suite_id: int, size: int) -> dict[str, int]:
    """Return, by operation and primitive, how many more calls our library makes than the formula says."""
    counted = _Counted()
    Story(suite_id, size, told=counted).play(2)
    return {
        f"{operation}: {kind}": found[kind] - needed.get(kind, 0)
        for operation, found in counted.calls.items()
        for needed in (calls(operation, size, counted).count,)
        for kind in sorted(found.keys() | needed.keys())
        if found[kind] != needed.get(kind, 0)
    }


@contextmanager
def _counting() -> Generator[Counter[str]]:
    counted: Counter[str] = Counter()
    deriving = 0

    def see(frame: FrameType, event: str, _: object) -> None:
        nonlocal deriving
        kind = _KINDS.get(frame.f_code)
        if kind is None:
            return
        # What a derivation calls in its turn is part of it.
        if event == "call":
            counted[kind] += not deriving
            deriving += kind == "derive"
        elif event == "return":
            deriving -= kind == "derive"

    sys.setprofile(see)
    try:
        yield counted
    finally:
        sys.setprofile(None)
