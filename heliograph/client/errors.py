"""What can go wrong on this side of the wire.

```
ClientError
 +-- StoreBusy       another process holds this device's store
 +-- StoreMissing    there is no device at this place, or one stands there already
 +-- StoreDamaged    the store cannot be read; its device must be set up anew
 +-- Unreachable     the server could not be reached, or its answer was cut off: try again
 +-- NotPossible     the device cannot do this now, and the message says why
```

What the server refuses is a `Problem` (heliograph.wire.problems); what breaks a rule of cryptography is an
`MLSError` (heliograph.mls.errors), such as `CredentialError`.
"""


class ClientError(Exception):
    """Something on this side could not be done."""


class StoreBusy(ClientError):
    """Another process holds this device's store."""


class StoreMissing(ClientError):
    """There is no device at this place, or one stands there already."""


class StoreDamaged(ClientError):
    """The store cannot be read; its device must be set up anew."""


class Unreachable(ClientError):
    """The server could not be reached, or its answer was cut off: try again."""


class NotPossible(ClientError):
    """The device cannot do this now, and the message says why."""
