"""What the operations of a group would cost if there were no protocol: its primitives alone, measured in the same run.

A `Calls` counts what RFC 9420 itself asks of an operation, however it is written: signatures, HPKE seals and opens,
key pairs derived, public keys read, HMACs (a KDF.Extract or Expand is one), hashes and AEADs, each with the bytes that
go in where they matter. `Bare` measures one call of each with nothing but `cryptography`, `hashlib` and `hmac`:

    a signing key is loaded once, as a device has one; every other key is read from its bytes, as it comes off the wire
    what grows with its input is measured with a short and a long one, and reckoned in between by a straight line

The formulas are for the story of `mls_story`, whose tree has N leaves in use and is as wide as the next power of two.
`mls_counted` holds them against what our library really calls.
"""

import hashlib
import hmac
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, MLKEM768X25519PrivateKey, MLKEM768X25519PublicKey, Suite

from bench.mls_story import Path, Told

SHORT_BYTES, LONG_BYTES = 128, 1 << 16
# Many short batches: one of them at least is left alone by the neighbours.
BATCHES = 40
BATCH_S = 0.002
MS_A_SECOND = 1000
MLKEM_PUBLIC_BYTES = 1184
# The secrets that follow from an epoch_secret, `encryption` among them. Source: RFC 9420 §8.
EPOCH_SECRETS = 9


@dataclass(frozen=True, slots=True)
class Calls:
    """How often each primitive is called, and how many bytes go into the calls beyond `SHORT_BYTES` each."""

    count: Mapping[str, int]
    long_inputs: tuple[tuple[str, int], ...] = ()

    def cost_ms(self, bare: "Bare") -> float:
        """Return the cost of all of them."""
        short_s = sum(count * bare.call_s[name] for name, count in self.count.items())
        long_s = sum(length * bare.byte_s[name] for name, length in self.long_inputs)
        return (short_s + long_s) * MS_A_SECOND


def calls(operation: str, size: int, told: Told) -> Calls:
    """Return what RFC 9420 asks for an operation of the story."""
    width = 1 << (size - 1).bit_length()
    if operation == "create":
        return Calls({"sign": 1, "derive": 1, "hmac": EPOCH_SECRETS + 1, "hash": 2})
    if operation == "add all":
        return _add_all(size - 1, width, told)
    if operation == "join":
        return _join(size, width, told)
    if operation == "encrypt":
        return Calls({"sign": 1, "hmac": 5, "aead": 2}, (("sign", told.message_bytes["talk"]),))
    if operation == "decrypt":
        return Calls({"verify": 1, "hmac": 5, "aead": 2}, (("verify", told.message_bytes["talk"]),))
    name, _, kind = operation.partition(" ")
    path, message = told.paths[kind], told.message_bytes[kind]
    return _commit(path, width, message) if name == "commit" else _process(path, width, message)


def _add_all(newcomers: int, width: int, told: Told) -> Calls:
    # Each key package: two signatures (§10.1), two keys, its reference and its sealed secrets (§12.4.3). Then the tree
    # hash (§7.8) of all but the founder's leaf, the commit and the GroupInfo signed, the turn of the key schedule, and
    # the GroupInfo sealed.
    count = {
        "verify": 2 * newcomers,
        "read": 2 * newcomers,
        "seal": newcomers,
        "hash": newcomers + (2 * width - 2) + 2,
        "sign": 2,
        "derive": 1,
        "hmac": _SCHEDULE + 2 + 2,
        "aead": 1,
    }
    commit = told.message_bytes["add all"]
    hashed = newcomers * (told.key_package_bytes + told.leaf_bytes - 2 * SHORT_BYTES)
    verified = 2 * newcomers * (told.leaf_bytes - SHORT_BYTES)
    return Calls(count, (("hash", hashed), ("verify", verified), *_over_commit(commit, "sign")))


def _join(size: int, width: int, told: Told) -> Calls:
    # The Welcome opened; every leaf's signature and key, the tree hash, and the GroupInfo's signature (§12.4.3.1).
    count = {
        "open": 1,
        "verify": size + 1,
        "read": size,
        "hash": (2 * width - 1) + 2,
        "hmac": _SCHEDULE + 2,
        "aead": 1,
    }
    beyond = size * (told.leaf_bytes - SHORT_BYTES)
    return Calls(count, (("hash", beyond), ("verify", beyond)))


def _commit(path: Path, width: int, message: int) -> Calls:
    # Key pairs for the path, the leaf and the GroupInfo's external_pub; the path sealed; parent hashes, and tree hashes
    # of the whole direct path (§7.8, §7.9); leaf, commit and GroupInfo signed.
    count = {
        "derive": path.nodes + 2,
        "seal": path.sealed,
        "hash": path.nodes + width.bit_length() + 2,
        "sign": 3,
        "hmac": 2 * path.nodes + _SCHEDULE + 2,
    }
    return Calls(count, _over_commit(message, "sign"))


def _process(path: Path, width: int, message: int) -> Calls:
    # The commit's and its leaf's signature, all new keys read, one secret opened, and what follows from it derived.
    count = {
        "verify": 2,
        "read": path.nodes + 1,
        "open": 1,
        "derive": path.derived,
        "hash": path.nodes + width.bit_length() + 2,
        "hmac": 2 * path.derived + _SCHEDULE + 2,
    }
    return Calls(count, _over_commit(message, "verify"))


# Extract twice, joiner, epoch, welcome, and what follows from the epoch_secret. Source: RFC 9420 §8.
_SCHEDULE = 5 + EPOCH_SECRETS


def _over_commit(message: int, signature: str) -> tuple[tuple[str, int], ...]:
    """What grows with a commit: its signature, the confirmed transcript hash and the membership tag."""
    beyond = max(0, message - SHORT_BYTES)
    return (signature, beyond), ("hash", beyond), ("hmac", beyond)


@dataclass(frozen=True, slots=True)
class Bare:
    """What one call of each primitive takes with a short input, and each further byte."""

    call_s: dict[str, float] = field(default_factory=dict[str, float])
    byte_s: dict[str, float] = field(default_factory=dict[str, float])

    @classmethod
    def of(cls, suite_id: int) -> "Bare":
        """Measure the primitives of a suite, 1 or 0xF04E."""
        bare = cls()
        hash_name, key_bytes = ("sha256", 16) if suite_id == 1 else ("sha384", 32)
        make_hash = {"sha256": hashlib.sha256, "sha384": hashlib.sha384}[hash_name]
        signing = Ed25519PrivateKey.generate()
        public = signing.public_key().public_bytes_raw()
        secret, aead_key, nonce = os.urandom(32), os.urandom(key_bytes), os.urandom(12)

        def verifying(data: bytes) -> Callable[[], object]:
            signature = signing.sign(data)
            return lambda: Ed25519PublicKey.from_public_bytes(public).verify(signature, data)

        bare._line("sign", lambda data: lambda: signing.sign(data))
        bare._line("verify", verifying)
        bare._line("hash", lambda data: lambda: make_hash(data).digest())
        bare._line("hmac", lambda data: lambda: hmac.digest(secret, data, hash_name))
        bare._line("aead", lambda data: lambda: AESGCM(aead_key).encrypt(nonce, data, b""))
        for name, act in (_x25519() if suite_id == 1 else _hybrid()).items():
            bare.call_s[name] = _best_s(act)
        return bare

    def _line(self, name: str, of_input: Callable[[bytes], Callable[[], object]]) -> None:
        short_s, long_s = _best_s(of_input(bytes(SHORT_BYTES))), _best_s(of_input(bytes(LONG_BYTES)))
        self.call_s[name] = short_s
        self.byte_s[name] = (long_s - short_s) / (LONG_BYTES - SHORT_BYTES)


def _x25519() -> dict[str, Callable[[], object]]:
    suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_128_GCM)
    private = os.urandom(32)
    public = X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
    info, plaintext = bytes(SHORT_BYTES), bytes(32)
    sealed = suite.encrypt(plaintext, X25519PublicKey.from_public_bytes(public), info)

    def derive() -> object:
        extracted = hmac.digest(b"", plaintext, "sha256")
        derived = hmac.digest(extracted, info, "sha256")
        return X25519PrivateKey.from_private_bytes(derived).public_key().public_bytes_raw()

    return {
        "seal": lambda: suite.encrypt(plaintext, X25519PublicKey.from_public_bytes(public), info),
        "open": lambda: suite.decrypt(sealed, X25519PrivateKey.from_private_bytes(private), info),
        "read": lambda: X25519PublicKey.from_public_bytes(public),
        "derive": derive,
    }


def _hybrid() -> dict[str, Callable[[], object]]:
    suite = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA384, AEAD.AES_256_GCM)
    info, plaintext, seed = bytes(SHORT_BYTES), bytes(48), os.urandom(32)

    def halves(seed: bytes) -> tuple[MLKEM768PrivateKey, X25519PrivateKey]:
        expanded = hashlib.shake_256(seed).digest(96)
        return MLKEM768PrivateKey.from_seed_bytes(expanded[:64]), X25519PrivateKey.from_private_bytes(expanded[64:])

    def public_bytes(seed: bytes) -> bytes:
        return b"".join(half.public_key().public_bytes_raw() for half in halves(seed))

    public = public_bytes(seed)

    def read() -> MLKEM768X25519PublicKey:
        first, second = public[:MLKEM_PUBLIC_BYTES], public[MLKEM_PUBLIC_BYTES:]
        return MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(first), X25519PublicKey.from_public_bytes(second)
        )

    sealed = suite.encrypt(plaintext, read(), info)
    return {
        "seal": lambda: suite.encrypt(plaintext, read(), info),
        "open": lambda: suite.decrypt(sealed, MLKEM768X25519PrivateKey(*halves(seed)), info),
        "read": read,
        "derive": lambda: public_bytes(hashlib.shake_256(info).digest(32)),
    }


def _best_s(act: Callable[[], object]) -> float:
    """Return the time of one call in the best of a few batches."""
    act()
    calls, took_s = 1, 0.0
    while took_s < BATCH_S:
        calls *= 2
        took_s = _batch_s(act, calls)
    return min(_batch_s(act, calls) for _ in range(BATCHES)) / calls


def _batch_s(act: Callable[[], object], calls: int) -> float:
    started = time.perf_counter()
    for _ in range(calls):
        act()
    return time.perf_counter() - started
