"""Structs that hold private keys on their way to and from the store: their repr tells nothing."""

import msgspec


class Hidden(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A struct that never shows its fields, in no log and no traceback."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"
