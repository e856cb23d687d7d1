"""What fences and atomics order between blocks is no race; without either, or by half, it is one."""

import numpy as np
import pytest

from simulators import ptx
from simulators.ptx import launch as machine
from tests.simulators.cuda_source import compile_ptx

BLOCKS, THREADS = 3, 64

# The last block to finish adds up what all wrote.
LAST_BLOCK = """
extern "C" __global__ void k(const int* x, int* part, unsigned* count, int* out) {{
  __shared__ int s[64];
  __shared__ bool last;
  int t = threadIdx.x, b = blockIdx.x;
  {write}
  if (t == 0) {{
    {release}
    unsigned before = {atomic};
    last = before == gridDim.x - 1;
    {acquire}
  }}
  {meet}
  if ({who}last) {{
    int sum = 0;
    for (int i = t; i < gridDim.x * 64; i += 64) sum += part[i];
    atomicAdd(out, sum);
  }}
}}
"""
GOOD = {
    "write": "part[b * 64 + t] = x[b * 64 + t]; __syncthreads();",
    "release": "__threadfence();",
    "atomic": "atomicAdd(count, 1)",
    "acquire": "__threadfence();",
    "meet": "__syncthreads();",
    "who": "",
}
RELEASING = (
    'asm volatile("atom.{order}.gpu.global.add.u32 %0, [%1], 1;" : "=r"(before) : "l"(count) : "memory");'
)


def atomic(order):
    return {"release": "", "acquire": "", "atomic": "0; " + RELEASING.replace("{order}", order)}


ORDERED = {
    "fences around the atomic": {},
    "fences of the system": {"release": "__threadfence_system();", "acquire": "__threadfence_system();"},
    "an atomic that acquires and releases": atomic("acq_rel"),
    "a fence by every thread": {
        "write": "part[b * 64 + t] = x[b * 64 + t]; __threadfence(); __syncthreads();"
    },
    "only what the thread itself wrote": {
        "write": "if (t == 0) for (int i = 0; i < 64; i++) part[b * 64 + i] = x[b * 64 + i];"
    },
}
RACES = {
    "no fence before the atomic": {"release": ""},
    "no fence behind the atomic": {"acquire": ""},
    "fences of the block alone": {"release": "__threadfence_block();", "acquire": "__threadfence_block();"},
    "an atomic that only acquires": atomic("acquire"),
    "an atomic that only releases": atomic("release"),
    "an atomic of its own for each block": {"atomic": "atomicAdd(count + b, 1) + gridDim.x - 1"},
    "others of the block wrote without a barrier": {"write": "part[b * 64 + t] = x[b * 64 + t];"},
    "the fence comes before the write": {
        "write": "if (t == 0) __threadfence(); part[b * 64 + t] = x[b * 64 + t]; __syncthreads();",
        "release": "",
    },
}  # fmt: skip


@pytest.fixture(autouse=True, params=[1, 4096], ids=["small groups", "one group"])
def group_warps(request, monkeypatch):
    monkeypatch.setattr(machine, "GROUP_WARPS", request.param)


def launch(source, *, architecture="compute_80"):
    x = np.random.default_rng(3).integers(-1000, 1000, BLOCKS * THREADS, dtype=np.int32)
    part, count, out = np.zeros_like(x), np.zeros(BLOCKS, np.uint32), np.zeros(1, np.int32)
    module = ptx.parse(compile_ptx(source, architecture))
    report = module.launch("k", BLOCKS, THREADS, [x, part, count, out])
    return [f for f in report.findings if f.kind == "race"], int(out[0]), int(x.sum())


@pytest.mark.parametrize("architecture", ["compute_75", "compute_80", "compute_90"])
@pytest.mark.parametrize("changes", ORDERED.values(), ids=ORDERED)
def test_the_last_block_may_read_what_the_others_wrote(changes, architecture):
    races, total, expected = launch(LAST_BLOCK.format(**GOOD | changes), architecture=architecture)
    assert races == []
    assert total == expected


def test_an_atomic_of_the_standard_library_orders_as_its_order_says():
    found = {}
    for order in ("acq_rel", "relaxed"):
        place = "cuda::atomic_ref<unsigned, cuda::thread_scope_device>(*count)"
        changes = {
            "release": "",
            "acquire": "",
            "atomic": f"{place}.fetch_add(1, cuda::memory_order_{order})",
        }
        races, *_ = launch("#include <cuda/atomic>\n" + LAST_BLOCK.format(**GOOD | changes))
        found[order] = bool(races)
    assert found == {"acq_rel": False, "relaxed": True}


@pytest.mark.parametrize("changes", RACES.values(), ids=RACES)
def test_half_of_a_pattern_orders_nothing(changes):
    races, *_ = launch(LAST_BLOCK.format(**GOOD | changes))
    assert races
    assert all(race.severity == "error" for race in races)


@pytest.mark.parametrize("who", ["t == 0 && ", ""], ids=["the thread itself", "all threads"])
def test_only_the_thread_that_fenced_knows_before_a_barrier(who):
    # That a block's threads race for its shared variable is another matter.
    races, *_ = launch(LAST_BLOCK.format(**GOOD | {"who": who, "meet": ""}))
    assert any("global address" in race.message for race in races) == (who == "")


# One block hands on to the next: each adds its own to what it found.
CHAIN = """
extern "C" __global__ void k(const int* x, int* part, volatile unsigned* flag, int* out) {{
  int t = threadIdx.x, b = blockIdx.x;
  if (b > 0) {{
    if (t == 0) {{ while (flag[b - 1] == 0) ; {acquire} }}
    __syncthreads();
  }}
  {work}
  __syncthreads();
  if (t == 0) {{ {release} flag[b] = 1; }}
  {end}
}}
"""
WORK = "part[t] = x[b * 64 + t] + (b ? part[t] : 0);"
END = "if (b == gridDim.x - 1) atomicAdd(out, part[t]);"


def test_order_is_handed_on_from_block_to_block():
    fences = {"acquire": "__threadfence();", "release": "__threadfence();"}
    races, total, expected = launch(CHAIN.format(**fences, work=WORK, end=END))
    assert (races, total) == ([], expected)


def test_what_was_handed_on_is_handed_on_again():
    """The last block hears only of the one before it, and reads what all have written."""
    fences = {"acquire": "__threadfence();", "release": "__threadfence();"}
    work = "part[b * 64 + t] = x[b * 64 + t];"
    end = "if (b == gridDim.x - 1) for (int i = 0; i <= b; i++) atomicAdd(out, part[i * 64 + t]);"
    races, total, expected = launch(CHAIN.format(**fences, work=work, end=end))
    assert (races, total) == ([], expected)


@pytest.mark.parametrize("missing", ["acquire", "release"])
def test_a_flag_without_a_fence_hands_on_nothing(missing):
    fences = {"acquire": "__threadfence();", "release": "__threadfence();"} | {missing: ""}
    assert launch(CHAIN.format(**fences, work=WORK, end=END))[0]


def test_the_first_block_knows_nothing_of_the_last():
    """Order goes one way: what the last block wrote is not before what the first reads."""
    fences = {"acquire": "__threadfence();", "release": "__threadfence();"}
    races, *_ = launch(CHAIN.format(**fences, work=WORK, end="if (b == 0) atomicAdd(out, part[t]);"))
    assert races
