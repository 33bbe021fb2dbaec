"""An invisible salamander: one AES-GCM ciphertext that opens under two keys (Dodis, Grubbs, Ristenpart, Woodage 2018).

GHASH is linear in each ciphertext block. So of a ciphertext with one free block, that block can be solved for such
that both keys give the same authentication tag; each key then decrypts it to a plaintext of its own.
"""

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

_REDUCTION = 0xE1 << 120


def _multiply(x: int, y: int) -> int:
    """The product in GCM's field (NIST SP 800-38D §6.3)."""
    product = 0
    for bit in range(127, -1, -1):
        if x >> bit & 1:
            product ^= y
        y = y >> 1 ^ (_REDUCTION if y & 1 else 0)
    return product


def _power(x: int, exponent: int) -> int:
    result = 1 << 127
    while exponent:
        if exponent & 1:
            result = _multiply(result, x)
        x, exponent = _multiply(x, x), exponent >> 1
    return result


def _block(key: bytes, block: bytes) -> int:
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305 - GCM is built of it
    return int.from_bytes(encryptor.update(block))


def _tag(key: bytes, nonce: bytes, blocks: list[int]) -> int:
    subkey, total = _block(key, bytes(16)), 0
    for block in [*blocks, len(blocks) * 128]:
        total = _multiply(total ^ block, subkey)
    return total ^ _block(key, nonce + (1).to_bytes(4))


def make_salamander(key1: bytes, key2: bytes, nonce: bytes, plaintext1: bytes) -> bytes:
    """Return a ciphertext with tag that opens under both keys; under `key1` it begins with `plaintext1`.

    plaintext1: a multiple of 16 bytes; one block that nobody chooses follows it.
    """
    count = len(plaintext1) // 16
    blocks = [
        int.from_bytes(plaintext1[16 * i : 16 * i + 16]) ^ _block(key1, nonce + (2 + i).to_bytes(4))
        for i in range(count)
    ]
    subkeys = [_block(key, bytes(16)) for key in (key1, key2)]
    # The free block is the last: it meets the subkey twice, once for itself and once for the length block.
    factor = _power(subkeys[0], 2) ^ _power(subkeys[1], 2)
    difference = _tag(key1, nonce, [*blocks, 0]) ^ _tag(key2, nonce, [*blocks, 0])
    blocks.append(_multiply(difference, _power(factor, 2**128 - 2)))
    return b"".join(one.to_bytes(16) for one in [*blocks, _tag(key1, nonce, blocks)])
