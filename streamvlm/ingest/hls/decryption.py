"""AES-128 as HLS does it: CBC, padded to whole blocks (RFC 8216, 4.3.2.4)."""

from __future__ import annotations

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

BLOCK_BYTES = 16
"""Of a block, a key and an initialization vector."""


class Decryption:
    """Decrypts one file, piece by piece.

    Args:
        key: `BLOCK_BYTES`.
        iv: The initialization vector, `BLOCK_BYTES`.
    """

    def __init__(self, key: bytes, iv: bytes) -> None:
        self._decryptor = Cipher(AES(key), CBC(iv)).decryptor()
        self._last_block = b""  # the last block, as it may hold padding

    def update(self, piece: bytes) -> bytes:
        """Returns the bytes that are decrypted after one more piece."""
        data = self._last_block + self._decryptor.update(piece)
        decrypted, self._last_block = data[:-BLOCK_BYTES], data[-BLOCK_BYTES:]
        return decrypted

    def finish(self) -> bytes:
        """Returns the rest without its padding; an incomplete last block is dropped."""
        n_padding = self._last_block[-1] if self._last_block else 0
        is_padded = 1 <= n_padding <= BLOCK_BYTES and self._last_block.endswith(bytes([n_padding]) * n_padding)
        return self._last_block[:-n_padding] if is_padded else self._last_block
