"""Booleans as a PNG: one pixel each, in one colour or clear."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np


def data_uri(mask: np.ndarray, colour: tuple[int, int, int]) -> str:
    """A ``data:`` address of a PNG with 1 bit a pixel, rows of ``mask`` from the top (PNG, 3rd edition)."""
    rows, columns = mask.shape
    packed = np.packbits(mask.astype(np.uint8), axis=1)
    lines = np.hstack([np.zeros((rows, 1), np.uint8), packed])  # each row is told to have no filter
    header = struct.pack(">IIBBBBB", columns, rows, 1, 3, 0, 0, 0)
    chunks = [
        (b"IHDR", header),
        (b"PLTE", bytes([0, 0, 0, *colour])),
        (b"tRNS", bytes([0, 255])),
        (b"IDAT", zlib.compress(lines.tobytes(), 9)),
        (b"IEND", b""),
    ]
    content = b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)
    return "data:image/png;base64," + base64.b64encode(content).decode()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
