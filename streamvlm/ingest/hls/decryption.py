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
        self._held = b""  # the last block, as it may hold padding

    def update(self, piece: bytes) -> bytes:
        """Returns the bytes that are decrypted after one more piece."""
        data = self._held + self._decryptor.update(piece)
        told, self._held = data[:-BLOCK_BYTES], data[-BLOCK_BYTES:]
        return told

    def finish(self) -> bytes:
        """Returns the rest without its padding; an incomplete last block is dropped."""
        n_padding = self._held[-1] if self._held else 0
        is_padded = 1 <= n_padding <= BLOCK_BYTES and self._held.endswith(bytes([n_padding]) * n_padding)
        return self._held[:-n_padding] if is_padded else self._held
