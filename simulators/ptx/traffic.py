"""How memory hardware would serve an access: sectors of global memory, transactions of shared memory.

Sources: CUDA C++ Programming Guide, "Global Memory" (32-byte sectors) and "Shared Memory" (32 banks of four
bytes; different words of one bank are served one after another, one word to any number of threads at once);
Nsight Compute, "Memory Tables" (accesses of 8 and 16 bytes go in halves and quarters of a warp).
"""

import numpy as np

BANKS = 32
WORD = 4
PHASE_BYTES = BANKS * WORD
SECTOR_SHIFT = 5
# Marks an item that nobody accesses.
_NOBODY = -1


def sectors(index: np.ndarray, size: int, keep: np.ndarray | None) -> int:
    """Count the 32-byte sectors that each warp touches; items (blocks, warps, ...) of `size` bytes."""
    found = (index >> (SECTOR_SHIFT - (size.bit_length() - 1))).astype(np.int32)
    if keep is not None:
        found = np.where(keep, found, np.int32(_NOBODY))
    return _distinct(found.reshape(*found.shape[:2], -1))


def _distinct(items: np.ndarray) -> int:
    """Count the distinct items along the last axis, all rows together."""
    step = np.diff(items, axis=-1)
    if (step < 0).any():
        items = np.sort(items, axis=-1)
        step = np.diff(items, axis=-1)
    return int(np.count_nonzero(step)) + int(np.count_nonzero(items[..., 0] != _NOBODY))


def transactions(index: np.ndarray, size: int, keep: np.ndarray | None) -> tuple[int, int]:
    """Count the shared-memory transactions of items (blocks, warps, ...), and how few they could be.

    Consecutive items of a warp are served together, 128 bytes at a time. Such a phase takes as many
    transactions as one bank has different words to serve; at least one, if anybody accesses.
    """
    words = index * max(1, size // WORD) if size >= WORD else index >> (2 if size == 1 else 1)
    words = words.astype(np.int32)
    if keep is not None:
        words = np.where(keep, words, np.int32(_NOBODY))
    words = words.reshape(*words.shape[:2], -1)
    if size > WORD:
        wide = words[..., None] + np.arange(size // WORD, dtype=np.int32)
        if keep is not None:
            wide = np.where(words[..., None] == _NOBODY, np.int32(_NOBODY), wide)
        words = wide
    # A warp that reads one item for all its threads has fewer words than a phase.
    each = words.size // (words.shape[0] * words.shape[1])
    words = words.reshape(-1, BANKS if each % BANKS == 0 else each)
    words = np.sort(words, axis=-1)
    first = np.concatenate([np.ones_like(words[:, :1], np.bool_), words[:, 1:] != words[:, :-1]], axis=1)
    first &= words != _NOBODY
    phase = np.broadcast_to(np.arange(words.shape[0])[:, None], words.shape)
    served = np.bincount((phase * BANKS + (words & (BANKS - 1)))[first], minlength=words.shape[0] * BANKS)
    most = served.reshape(-1, BANKS).max(axis=1)
    return int(most.sum()), int(np.count_nonzero(most))
