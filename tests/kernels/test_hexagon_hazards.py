"""What a schedule must not rely on shows: the order of a parallel loop, and what scratch memory holds."""

import numpy as np
import pytest

from kernels.hexagon.build import build_elf
from kernels.hexagon.loop_nest import LoopNest, parallel, store_vector, vector, word_vector
from simulators.hvx.qemu import FunctionServer
from tests.simulators.hvx_guest import needs_qemu, needs_toolchain

pytestmark = [needs_qemu, needs_toolchain]

VECTORS = 16


def each_from_the_one_before():
    """Every vector is the one before plus 1: right only where the iterations run in order."""
    with LoopNest() as nest:
        (out,) = nest.tensors(("out", (VECTORS + 1, 32), "int32"))
        words = out.view("int32")
        store_vector(words, 0, word_vector(0))
        with parallel(VECTORS) as index:
            store_vector(words, (index + 1) * 32, vector(words, index * 32) + word_vector(1))
    return nest.function


def each_from_itself():
    """The same result from the index alone: right in any order."""
    with LoopNest() as nest:
        (out,) = nest.tensors(("out", (VECTORS + 1, 32), "int32"))
        words = out.view("int32")
        with parallel(VECTORS + 1) as index:
            store_vector(words, index * 32, word_vector(index))
    return nest.function


def sum_in_scratch(*, cleared: bool):
    """Twice the data, added up in scratch memory that is set to zero before, or hoped to be."""
    with LoopNest() as nest:
        data, out = nest.tensors(("data", (32,), "int32"), ("out", (32,), "int32"))
        total = nest.scratch(128).view("int32")
        source = data.view("int32")
        if cleared:
            store_vector(total, 0, word_vector(0))
        for _ in range(2):
            store_vector(total, 0, vector(total, 0) + vector(source, 0))
        store_vector(out.view("int32"), 0, vector(total, 0))
    return nest.function


@pytest.fixture(scope="module")
def elf() -> bytes:
    return build_elf(
        {
            "dependent": each_from_the_one_before(),
            "independent": each_from_itself(),
            "cleared": sum_in_scratch(cleared=True),
            "hoping": sum_in_scratch(cleared=False),
        }
    )


IN_ORDER = np.broadcast_to(np.arange(VECTORS + 1, dtype=np.int32)[:, None], (VECTORS + 1, 32))


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_a_dependence_between_parallel_iterations_shows_in_every_order_that_is_used(elf, seed):
    with FunctionServer(elf, timeout=30) as server:
        server.shuffle_tasks(seed)
        for name, right in (("independent", True), ("dependent", False)):
            out = np.zeros((VECTORS + 1, 32), np.int32)
            server.call(name, [], out)
            assert np.array_equal(out, IN_ORDER) is right, name


def test_scratch_memory_is_never_zero_by_luck(elf):
    data = np.arange(32, dtype=np.int32)
    with FunctionServer(elf, timeout=30) as server:
        for name, right in (("cleared", True), ("hoping", False)):
            for _ in range(2):  # what one call leaves does not help the next
                out = np.zeros(32, np.int32)
                server.call(name, [data], out)
                assert np.array_equal(out, 2 * data) is right, name
