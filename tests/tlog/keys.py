"""A log's key pair: the private half signs through a callable, as a server would lend it."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from heliograph.tlog.checkpoint import Sign, SignatureType, VerifierKey


def key_pair(name: str, seed: int = 1, kind: SignatureType = SignatureType.ED25519) -> tuple[VerifierKey, Sign]:
    """Return a verifier key and its signing callable; the same seed gives the same pair."""
    private = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
    return VerifierKey(name, private.public_key().public_bytes_raw(), kind), private.sign
