"""What lies in a slot of a segment file: a header that describes itself, a block's index rows, its encoded payload.

    | header, index rows, positions, up to whole pages | payload, up to whole pages |

Whole pages, so that a payload is read straight into the arena, past the page cache where that helps. The header
tells everything the catalog knows of the block: a lost catalog is made again from the segments alone.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

import xxhash

from streamvlm.frame import Fidelity
from streamvlm.memory.block import KVBlock, Positions, whole_pages
from streamvlm.memory.disk.codec import Codec

_MAGIC = b"SVLMBLK2"
# magic, sequence, id, start, end, score, bytes of payload, rows and positions, extent, tokens, fidelity, codec,
# fingerprint, two checksums
_FIELDS = struct.Struct("<8sQQdddQIIIIBB16sQ16s")
_SEAL = struct.Struct("<Q")
HEADER_BYTES = 128
_FIDELITIES, _CODECS = list(Fidelity), list(Codec)


@dataclass(frozen=True, slots=True)
class SlotShape:
    """Sizes of one kind of slot, in whole pages.

    Attributes:
        head_bytes: Header, index rows and positions.
        body_bytes: Encoded payload.
    """

    head_bytes: int
    body_bytes: int

    @classmethod
    def of(cls, block: KVBlock, n_row_bytes: int, n_payload_bytes: int) -> SlotShape:
        """Returns the smallest that holds a block with index rows and an encoded payload of these sizes."""
        return cls(whole_pages(HEADER_BYTES + n_row_bytes + len(_position_bytes(block))), whole_pages(n_payload_bytes))

    @property
    def n_bytes(self) -> int:
        """Length of the slot."""
        return self.head_bytes + self.body_bytes


@dataclass(frozen=True, slots=True)
class SlotHeader:
    """A slot's header.

    Attributes:
        block: The block's entry as it was when written; ``describe`` adds the positions.
        sequence: Rises with every write of a store: of two slots with one block, the higher holds.
        codec: How the payload is encoded.
        n_row_bytes: Bytes of index rows.
        n_position_bytes: Bytes of positions, 0 if the tokens stand one behind the other.
        extent: Of the positions.
        n_payload_bytes: Bytes of the encoded payload.
        fingerprint: Of the model that made the block.
        row_checksum: xxh3-64 of index rows and positions.
        payload_checksum: xxh3-128 of the encoded payload.
    """

    block: KVBlock
    sequence: int
    codec: Codec
    n_row_bytes: int
    n_position_bytes: int
    extent: int
    n_payload_bytes: int
    fingerprint: str
    row_checksum: int
    payload_checksum: bytes


def pack_header(header: SlotHeader) -> bytes:
    """Returns the header's 128 bytes, with a checksum of their own."""
    block = header.block
    fields = _FIELDS.pack(
        _MAGIC, header.sequence, block.id, block.start_s, block.end_s, block.score, header.n_payload_bytes,
        header.n_row_bytes, header.n_position_bytes, header.extent, block.n_tokens, _FIDELITIES.index(block.fidelity),
        _CODECS.index(header.codec),
        header.fingerprint.encode("ascii")[:16], header.row_checksum,
        header.payload_checksum,
    )  # fmt: skip
    sealed = fields + _SEAL.pack(xxhash.xxh3_64_intdigest(fields))
    return sealed.ljust(HEADER_BYTES, b"\0")


def unpack_header(data: memoryview) -> SlotHeader | None:
    """Reads what ``pack_header`` packed; None if nothing was, or it is damaged."""
    fields = bytes(data[: _FIELDS.size])
    (seal,) = _SEAL.unpack(data[_FIELDS.size : _FIELDS.size + _SEAL.size])
    if not fields.startswith(_MAGIC) or seal != xxhash.xxh3_64_intdigest(fields):
        return None
    (_, sequence, block_id, start_s, end_s, score, n_payload, n_rows, n_positions, extent, n_tokens, fidelity, codec,
     fingerprint, row_checksum, payload_checksum) = _FIELDS.unpack(fields)  # fmt: skip
    block = KVBlock(block_id, start_s, end_s, _FIDELITIES[fidelity], score, n_tokens)
    name = fingerprint.rstrip(b"\0").decode("ascii", "replace")
    return SlotHeader(
        block, sequence, _CODECS[codec], n_rows, n_positions, extent, n_payload, name, row_checksum, payload_checksum
    )


def describe(header: SlotHeader, head: memoryview) -> tuple[KVBlock, memoryview] | None:
    """Returns the whole entry and the index rows in a slot's first pages; None unless they are as they were written."""
    n_bytes = header.n_row_bytes + header.n_position_bytes
    described = head[HEADER_BYTES : HEADER_BYTES + n_bytes]
    if xxhash.xxh3_64_intdigest(described) != header.row_checksum:
        return None
    rows, positions = described[: header.n_row_bytes], bytes(described[header.n_row_bytes :])
    return replace(header.block, positions=Positions(positions, header.extent) if positions else None), rows


def holds_payload(header: SlotHeader, body: memoryview) -> bool:
    """Whether a slot's other pages hold the payload that was written."""
    return xxhash.xxh3_128_digest(body[: header.n_payload_bytes]) == header.payload_checksum


def arrived(head: memoryview, body: memoryview, block_id: int, sequence: int) -> bool:
    """Whether a slot's pages are sound and hold this writing of this block; ``unpack_header`` at its shortest."""
    (seal,) = _SEAL.unpack_from(head, _FIELDS.size)
    if seal != xxhash.xxh3_64_intdigest(head[: _FIELDS.size]):
        return False
    magic, own_sequence, own_id, _, _, _, n_payload, *_, checksum = _FIELDS.unpack_from(head)
    if (magic, own_id, own_sequence) != (_MAGIC, block_id, sequence):
        return False
    return bool(checksum == xxhash.xxh3_128_digest(body[:n_payload]))


def write_head(
    head: bytearray, block: KVBlock, sequence: int, codec: Codec, fingerprint: str, rows: memoryview, body: memoryview
) -> None:
    """Fills a slot's first pages for a block with these index rows and this encoded payload."""
    positions = _position_bytes(block)
    described = bytes(rows) + positions
    head[HEADER_BYTES : HEADER_BYTES + len(described)] = described
    extent = block.positions.extent if block.positions else 0
    sums = xxhash.xxh3_64_intdigest(described), xxhash.xxh3_128_digest(body)
    head[:HEADER_BYTES] = pack_header(
        SlotHeader(block, sequence, codec, rows.nbytes, len(positions), extent, body.nbytes, fingerprint, *sums)
    )


def _position_bytes(block: KVBlock) -> bytes:
    return block.positions.data if block.positions else b""
