"""GEMM and ALU: an instruction's micro-ops and loops executed at once, as a few array operations.

The functional simulator walks iter_out × iter_in × micro-ops one tile at a time. Here a plan turns them
into index arrays. A plan depends on the micro-ops and the instruction's loops alone, never on data, so
one plan serves every execution of the same kernel.

Exactness. One product of two int8 is at most 2^14, so a float32 sum over at most 1024 of them stays
within 2^24 whatever the order of addition, where every integer is a float32: longer reductions are cut
at 1024 and added as int32, modulo 2^32. Other widths have other cuts (`Config.exact_reduction`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

# Iterations in one plan: bounds its memory, where an instruction can turn its loops 2^28 times.
PIECE = 1 << 18


@dataclass(frozen=True)
class Operand:
    """Where one operand of each iteration lies: micro-op field, and the factors of the two loops."""

    base: np.ndarray
    out: int
    inner: int

    def highest(self, iter_out: int, iter_in: int) -> int:
        """Return the largest index over all iterations, of which there is at least one."""
        return int(self.base.max()) + (iter_out - 1) * self.out + (iter_in - 1) * self.inner

    def indices(self, iter_out: int, iter_in: int) -> np.ndarray:
        """Return the index of each iteration in the order of execution, int64[iterations]."""
        outer = np.arange(iter_out)[:, None, None] * self.out
        inner = np.arange(iter_in)[None, :, None] * self.inner
        return (outer + inner + self.base[None, None, :]).ravel()


Operands = tuple[Operand, Operand, Operand]
"""dst, src and wgt of a GEMM or ALU instruction."""


def pieces(operands: Operands, iter_out: int, iter_in: int) -> Iterator[tuple[Operands, int, int]]:
    """Cut an instruction into instructions of at most PIECE iterations (or one loop turn), in its order."""
    uops = operands[0].base.size
    inner = min(iter_in, max(PIECE // uops, 1))
    outer = min(iter_out, max(PIECE // (uops * iter_in), 1))
    for out in range(0, iter_out, outer):
        for turn in range(0, iter_in, inner):
            dst, src, wgt = (
                Operand(each.base + out * each.out + turn * each.inner, each.out, each.inner)
                for each in operands
            )
            yield (dst, src, wgt), min(outer, iter_out - out), min(inner, iter_in - turn)


def span(indices: np.ndarray) -> np.ndarray | slice:
    """Give the indices as a slice where they count up by one: a slice is used without a copy."""
    first = int(indices.flat[0])
    if indices.ndim == 1 and (indices[1:] - indices[:-1] == 1).all():
        return slice(first, first + indices.size)
    return indices


# GEMM ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Product:
    """acc[dst[g, p]] += Σ_r inp[src[p, r]] · wgt[wgt[g, r]]ᵀ; no two entries of dst are equal."""

    dst: np.ndarray
    src: np.ndarray
    wgt: np.ndarray

    @property
    def nbytes(self) -> int:
        """Bytes of the index arrays."""
        return self.dst.nbytes + self.src.nbytes + self.wgt.nbytes

    @cached_property
    def block(self) -> slice | None:
        """What selects all accumulators, where they follow one another, channel block by channel block."""
        found = span(self.dst.reshape(-1))
        return found if isinstance(found, slice) else None

    @cached_property
    def targets(self) -> list[np.ndarray | slice]:
        """What selects the accumulators of each channel block."""
        return [span(each) for each in self.dst]


def plan_gemm(dst: Operand, src: Operand, wgt: Operand, iter_out: int, iter_in: int) -> list[Product]:
    """Turn the iterations into matrix products.

    A loop that moves dst but not wgt runs over pixels: it widens a product. Any other loop belongs to the
    reduction or to the channels, and is unrolled into micro-ops. Those are grouped by dst (one group is one
    reduction); groups that share their weights are stacked as pixels of one product, and then products that
    read the same pixels as its channels.
    """
    loops = [(iter_out, dst.out, src.out, wgt.out), (iter_in, dst.inner, src.inner, wgt.inner)]
    pixel_dst, pixel_src = np.zeros(1, np.int64), np.zeros(1, np.int64)
    flat = [dst.base, src.base, wgt.base]
    for count, by_dst, by_src, by_wgt in loops:
        steps = np.arange(count)
        if by_wgt == 0 and by_dst != 0:
            pixel_dst = (pixel_dst[:, None] + steps * by_dst).ravel()
            pixel_src = (pixel_src[:, None] + steps * by_src).ravel()
        else:
            factors = (by_dst, by_src, by_wgt)
            flat = [(steps[:, None] * by + base).ravel() for by, base in zip(factors, flat, strict=True)]
    products = _products(flat, pixel_dst, pixel_src)
    if all(_distinct(each.dst.reshape(-1)) for each in products):
        return products
    everything = [operand.indices(iter_out, iter_in) for operand in (dst, src, wgt)]
    return _products(everything, np.zeros(1, np.int64), np.zeros(1, np.int64))


def _products(flat: list[np.ndarray], pixel_dst: np.ndarray, pixel_src: np.ndarray) -> list[Product]:
    """Group micro-ops (dst, src, wgt), each executed for every pixel, into products."""
    order = np.argsort(flat[0], kind="stable")
    dst, src, wgt = (each[order] for each in flat)
    starts = np.flatnonzero(np.diff(dst, prepend=-1))
    by_weights: dict[bytes, list[tuple[int, np.ndarray, np.ndarray]]] = {}
    for begin, end in zip(starts.tolist(), [*starts[1:].tolist(), dst.size], strict=True):
        by_weights.setdefault(wgt[begin:end].tobytes(), []).append(
            (int(dst[begin]), src[begin:end], wgt[begin:end])
        )
    by_pixels: dict[tuple[int, bytes], list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {}
    for groups in by_weights.values():
        stacked = np.stack([each for _, each, _ in groups])
        targets = np.array([each for each, _, _ in groups])
        by_pixels.setdefault((len(groups), stacked.tobytes()), []).append((targets, stacked, groups[0][2]))
    products = []
    for channels in by_pixels.values():
        dst = np.stack([(targets[:, None] + pixel_dst).ravel() for targets, _, _ in channels])
        src = (channels[0][1][:, None, :] + pixel_src[None, :, None]).reshape(-1, channels[0][1].shape[1])
        wgt = np.stack([weights for _, _, weights in channels])
        # In the order of ACC the accumulators of a product are often one slice.
        rows, columns = np.argsort(dst[:, 0], kind="stable"), np.argsort(dst[0], kind="stable")
        products.append(Product(dst[rows][:, columns], src[columns], wgt[rows]))
    return products


def run_gemm(
    products: list[Product], acc: np.ndarray, inp: np.ndarray, wgt: np.ndarray, *, exact: int, scale: int = 1
) -> None:
    """Add the products, times scale, to acc[depth, batch, block], modulo its width; inp, wgt: float tiles.

    exact: how many products the floats can add up without rounding (`Config.exact_reduction`).
    """
    _, batch, block_out = acc.shape
    block_in = inp.shape[2]
    step = exact // block_in
    rows = inp.reshape(len(inp), batch * block_in)
    for product in products:
        channels, pixels = product.dst.shape
        for begin in range(0, product.src.shape[1], step):
            src, weights = product.src[:, begin : begin + step], product.wgt[:, begin : begin + step]
            length = src.shape[1] * block_in
            left = rows.take(src, axis=0)
            if batch > 1:
                left = left.reshape(pixels, src.shape[1], batch, block_in).swapaxes(1, 2)
            right = wgt[weights].swapaxes(1, 2).reshape(channels * block_out, length)
            sums = left.reshape(pixels * batch, length) @ right.T
            # A double holds sums beyond int32, which are wrapped and not clamped.
            whole = sums.astype(np.int32 if sums.dtype == np.float32 else np.int64)
            wrapped = whole.astype(acc.dtype, copy=False).reshape(pixels, batch, channels, block_out)
            if scale != 1:
                wrapped *= acc.dtype.type(scale)
            if product.block is not None:
                whole_block = acc[product.block].reshape(channels, pixels, batch, block_out)
                whole_block += wrapped.transpose(2, 0, 1, 3)
                continue
            for channel, target in enumerate(product.targets):
                acc[target] += wrapped[:, :, channel]


# ALU -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """Iterations of an ALU instruction that may run at once: no one writes what another reads or writes."""

    dst: np.ndarray | slice
    src: np.ndarray | slice | None

    @property
    def nbytes(self) -> int:
        """Bytes of the index arrays."""
        return sum(each.nbytes for each in (self.dst, self.src) if isinstance(each, np.ndarray))


def plan_alu(dst: Operand, src: Operand | None, iter_out: int, iter_in: int) -> list[Step]:
    """Turn the iterations into steps with the result of one after the other; src None: an immediate."""
    targets = dst.indices(iter_out, iter_in)
    sources = None if src is None else src.indices(iter_out, iter_in)
    if sources is None or not _share(targets, sources):
        if _distinct(targets):
            return [Step(span(targets), None if sources is None else span(sources))]
        # Only iterations on the same dst depend on one another: the nth of each goes to the nth step.
        ranks = _occurrence(targets)
        picks = np.split(np.argsort(ranks, kind="stable"), np.cumsum(np.bincount(ranks))[:-1])
    else:
        bounds = _hazards(targets, sources)
        picks = [np.arange(begin, end) for begin, end in pairwise(bounds)]
    return [Step(span(targets[pick]), None if sources is None else span(sources[pick])) for pick in picks]


def _distinct(values: np.ndarray) -> bool:
    """Whether no index stands twice."""
    return int(np.bincount(values).max()) < 2


def _share(some: np.ndarray, others: np.ndarray) -> bool:
    """Whether an index stands in both."""
    marked = np.zeros(max(some.max(), others.max()) + 1, np.bool_)
    marked[some] = True
    return bool(marked[others].any())


def _occurrence(values: np.ndarray) -> np.ndarray:
    """How many equal values stand before each."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    fresh = np.flatnonzero(np.diff(ordered, prepend=ordered[0] - 1))
    counts = np.diff(fresh, append=values.size)
    ranks = np.empty(values.size, np.int64)
    ranks[order] = np.arange(values.size) - np.repeat(fresh, counts)
    return ranks


def _hazards(targets: np.ndarray, sources: np.ndarray) -> list[int]:
    """Bounds of runs in which no iteration touches what an earlier one of the run wrote."""
    bounds = [0]
    written_at: dict[int, int] = {}
    for place, (target, source) in enumerate(zip(targets.tolist(), sources.tolist(), strict=True)):
        if max(written_at.get(target, -1), written_at.get(source, -1)) >= bounds[-1]:
            bounds.append(place)
        written_at[target] = place
    return [*bounds, targets.size]
