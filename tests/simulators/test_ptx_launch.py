"""Launching: geometry, arguments, groups of blocks, counters, the budget."""

import ml_dtypes
import numpy as np
import pytest

from simulators import ptx
from simulators.ptx import launch as machine
from tests.simulators.cuda_source import compile_ptx

HEAD = ".version 8.0\n.target sm_80\n.address_size 64\n"

WHERE = """
extern "C" __global__ void where(unsigned* out) {
  unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  unsigned lane;
  asm("mov.u32 %0, %%laneid;" : "=r"(lane));
  out[block * blockDim.x * blockDim.y * blockDim.z + thread] =
      threadIdx.x + threadIdx.y * 100 + threadIdx.z * 10000 + blockIdx.x * 1000000 + blockIdx.y * 10000000
      + blockIdx.z * 100000000 + lane * 1000000000u;
}
extern "C" __global__ void scale(const float* x, float* y, float factor, int n, unsigned char bias, short s,
                                 long long big) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = x[i] * factor + (float)((int)bias + (int)s + (int)(big >> 40));
}
"""


@pytest.fixture(scope="module")
def module():
    return ptx.parse(compile_ptx(WHERE))


@pytest.mark.parametrize("group_warps", [1, 3, 4096], ids=["one block a group", "a few", "all at once"])
@pytest.mark.parametrize(
    ("grid", "block"),
    [
        (1, 1),
        (3, 32),
        ((2, 3, 4), (4, 8, 2)),
        ((5,), (33,)),
        ([2, 2], [7, 3]),
        ((1, 1, 2), (1, 1, 64)),
        (2, 1024),
    ],
    ids=str,
)
def test_every_thread_knows_where_it_is(module, monkeypatch, grid, block, group_warps):
    monkeypatch.setattr(machine, "GROUP_WARPS", group_warps)
    g = np.ones(3, int)
    b = np.ones(3, int)
    g[: np.size(grid)], b[: np.size(block)] = grid, block
    out = np.zeros(g.prod() * b.prod(), np.uint32)
    report = module.launch("where", grid, block, [out])
    want = []
    for gz, gy, gx, z, y, x in np.ndindex(*g[::-1], *b[::-1]):
        lane = ((z * b[1] + y) * b[0] + x) % 32
        digits = x + 100 * y + 10**4 * z + 10**6 * gx + 10**7 * gy + 10**8 * gz + 10**9 * lane
        want.append(digits % 2**32)
    np.testing.assert_array_equal(out, want)
    assert report.findings == []
    warps = g.prod() * -(-b.prod() // 32)
    assert report.counters["instructions.ret"] == warps
    assert report.counters["global_store_bytes"] == out.nbytes


def test_scalars_arrive_as_the_kernel_declares_them(module):
    x = np.linspace(-2, 2, 50, dtype=np.float32)
    y = np.full(64, 7, np.float32)
    module.launch("scale", 2, 32, [x, y, 1.5, 50, 200, -3, -5 << 40])
    np.testing.assert_array_equal(y[:50], (x * np.float32(1.5) + np.float32(192)).astype(np.float32))
    np.testing.assert_array_equal(y[50:], 7)


def test_strided_and_shared_arrays(module):
    whole = np.zeros((8, 8), np.uint32)
    view = whole[:, ::2]
    module.launch("where", 1, 32, [view])
    np.testing.assert_array_equal(view.ravel(), np.arange(32) * 1000000001 % 2**32)
    assert (whole[:, 1::2] == 0).all()
    both = np.arange(40, dtype=np.float32)
    module.launch("scale", 1, 40, [both, both, 2.0, 40, 0, 0, 0])
    np.testing.assert_array_equal(both, 2 * np.arange(40))


def test_numpy_integers_and_empty_arrays_are_taken(module):
    empty = np.zeros(0, np.float32)
    module.launch("scale", np.int64(1), np.array([8, 1]), [empty, empty, np.float32(1), np.int32(0), 0, 0, 0])


def test_the_launch_names_wrong_kernels(module):
    with pytest.raises(
        ptx.UnknownKernelError, match="no kernel 'nosuch' in this module; it has: scale, where"
    ):
        module.launch("nosuch", 1, 1, [])


@pytest.mark.parametrize(
    ("grid", "block", "message"),
    [
        (0, 32, r"grid.x is 0, must be 1 to 2147483647"),
        ((1, 0), 32, r"grid.y is 0"),
        ((1, 1, 70000), 32, r"grid.z is 70000, must be 1 to 65535"),
        (1, (1, -1), r"block.y is -1"),
        (1, (1, 1, 65), r"block.z is 65"),
        (1, (1024, 2), "2048 threads; at most 1024"),
        ((1, 1, 1, 1), 1, "an int or one to three"),
        ((), 1, "an int or one to three"),
        (1.5, 1, "grid 1.5 must be an int or one to three"),
        (1, "32", "block '32' must be an int or one to three"),
    ],
    ids=str,
)
def test_impossible_geometry_is_an_error(module, grid, block, message):
    with pytest.raises(ptx.LaunchError, match=message):
        module.launch("where", grid, block, [np.zeros(1, np.uint32)])


ARRAY = np.zeros(64, np.float32)
GOOD = [ARRAY, ARRAY, 1.0, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("index", "arg", "message"),
    [
        (None, None, r"scale takes 7 arguments \(.u64, .u64, .f32, .u32, .u8, .u16, .u64\), not 6"),
        (3, ARRAY, r"argument 3 of kernel scale \(.u32 scale_param_3\) is a scalar, not a pointer"),
        (2, "x", "argument 2 .* cannot be str 'x'"),
        (3, 1.5, "argument 3 .* cannot be float 1.5"),
        (4, 256, "256 does not fit into 8 bits"),
        (5, -32769, "-32769 does not fit into 16 bits"),
        (0, None, "cannot be NoneType"),
        (0, np.array([None]), "dtype object"),
        (0, np.zeros(8, ml_dtypes.int4), "pack it, eight to a 32-bit word"),
        (1, ARRAY[1:], "overlaps another argument"),
    ],
    ids=[
        "count",
        "array for scalar",
        "text",
        "float for int",
        "u8",
        "s16",
        "none",
        "object",
        "int4",
        "overlap",
    ],
)
def test_impossible_arguments_are_an_error(module, index, arg, message):
    args = GOOD[:-1] if index is None else [*GOOD[:index], arg, *GOOD[index + 1 :]]
    with pytest.raises(ptx.LaunchError, match=message):
        module.launch("scale", 1, 32, args)


def test_a_read_only_array_may_be_read_but_not_written(module):
    frozen = np.zeros(32, np.uint32)
    frozen.flags.writeable = False
    module.launch("scale", 1, 8, [frozen, np.zeros(8, np.float32), 1.0, 8, 0, 0, 0])
    with pytest.raises(ptx.LaunchError, match="read-only"):
        module.launch("where", 1, 32, [frozen])


def test_negative_dynamic_shared_is_an_error(module):
    with pytest.raises(ptx.LaunchError, match="must not be negative, is -1"):
        module.launch("where", 1, 1, [np.zeros(1, np.uint32)], dynamic_shared=-1)


def test_the_budget_stops_a_kernel_that_never_ends():
    text = HEAD + ".visible .entry forever()\n{\nLOOP:\nbra LOOP;\n}\n"
    with pytest.raises(ptx.InstructionBudgetError, match=r"forever, PTX line 7 \(bra\): more than 1000 warp"):
        ptx.parse(text).launch("forever", 4, 32, [], instruction_budget=1000)


def test_the_budget_counts_what_runs(module):
    out = np.zeros(64, np.uint32)
    issued = module.launch("where", 2, 32, [out]).counters["warp_instructions"]
    module.launch("where", 2, 32, [out], instruction_budget=issued)
    with pytest.raises(ptx.InstructionBudgetError):
        module.launch("where", 2, 32, [out], instruction_budget=issued - 1)


def test_module_variables_hold_their_initial_values():
    text = (
        HEAD
        + """
    .global .align 4 .u32 table[4] = {11, 0x16, -1};
    .visible .entry k(.param .u64 out) {
      .reg .b64 %rd<3>; .reg .b32 %r<3>;
      mov.u32 %r0, %tid.x;
      mov.u64 %rd0, table;
      mad.wide.u32 %rd0, %r0, 4, %rd0;
      ld.global.u32 %r1, [%rd0];
      ld.global.u32 %r2, [table+4];
      add.u32 %r1, %r1, %r2;
      ld.param.u64 %rd1, [out];
      mad.wide.u32 %rd1, %r0, 4, %rd1;
      st.global.u32 [%rd1], %r1;
      ret;
    }"""
    )
    out = np.zeros(4, np.uint32)
    report = ptx.parse(text).launch("k", 1, 4, [out])
    assert out.tolist() == [33, 44, 21, 22]
    assert report.findings == []
