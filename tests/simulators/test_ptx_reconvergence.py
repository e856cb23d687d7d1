"""Divided threads meet where their paths join, wherever that is in the text, and wait for nobody in vain."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators import ptx
from simulators.ptx.control_flow import ranks
from tests.simulators.cuda_source import compile_ptx

HEAD = (
    ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 out)\n{\n"
    ".reg .b32 %r<9>; .reg .b64 %rd<9>; .reg .pred %p<4>; .shared .b32 s[64]; ld.param.u64 %rd0, [out];\n"
    "mov.u32 %r0, %tid.x; mul.wide.u32 %rd1, %r0, 4; add.u64 %rd1, %rd0, %rd1; setp.lt.u32 %p0, %r0, 5;\n"
)


def launch(body, threads=32):
    out = np.zeros(64, np.int32)
    report = ptx.parse(f"{HEAD}{body}\n}}\n").launch("k", 1, threads, [out], instruction_budget=50_000)
    return out, report


JOINS = {
    "join after both sides": """
        @%p0 bra A; mov.u32 %r1, 1; bra J; A: mov.u32 %r1, 2; J: activemask.b32 %r2; bar.sync 0;
        st.global.u32 [%rd1], %r2; ret;""",
    "join before both sides": """
        bra S; J: activemask.b32 %r2; bar.sync 0; st.global.u32 [%rd1], %r2; ret;
        S: @%p0 bra A; mov.u32 %r1, 1; bra J; A: mov.u32 %r1, 2; bra J;""",
    "join between the sides": """
        @%p0 bra A; mov.u32 %r1, 1; J: activemask.b32 %r2; bar.sync 0; st.global.u32 [%rd1], %r2; ret;
        A: mov.u32 %r1, 2; bra J;""",
    "join of a loop that stands before it": """
        mov.u32 %r1, 0; bra L; J: activemask.b32 %r2; bar.sync 0; st.global.u32 [%rd1], %r2; ret;
        L: add.u32 %r1, %r1, 1; setp.lt.u32 %p1, %r1, %r0; @%p1 bra L; bra J;""",
    "join of a loop left from its middle, before it": """
        mov.u32 %r1, 0; bra L; J: activemask.b32 %r2; bar.sync 0; st.global.u32 [%rd1], %r2; ret;
        L: add.u32 %r1, %r1, 1; setp.gt.u32 %p1, %r1, %r0; @%p1 bra J; add.u32 %r1, %r1, 1; bra L;""",
    "join within a loop, behind its end": """
        mov.u32 %r1, 0; bra H; B: mov.u32 %r3, 3; J: activemask.b32 %r2; bar.sync 0;
        add.u32 %r1, %r1, 1; setp.lt.u32 %p1, %r1, 3; @%p1 bra H; st.global.u32 [%rd1], %r2; ret;
        C: mov.u32 %r3, 4; bra J; H: @%p0 bra C; bra B;""",
}


@pytest.mark.parametrize("body", JOINS.values(), ids=list(JOINS))
def test_threads_meet_at_the_join(body):
    out, report = launch(body)
    assert out[:32].tolist() == [-1] * 32
    assert report.findings == []


def test_a_thread_that_waits_for_another_of_its_warp_gets_its_value():
    # Thread 0 spins, and ranks below what the others must run to release it.
    out, report = launch(
        """
        mov.u32 %r8, 0; st.shared.u32 [s], %r8; bar.sync 0; setp.ne.u32 %p1, %r0, 0; @%p1 bra W;
        L: ld.volatile.shared.u32 %r1, [s]; setp.eq.u32 %p2, %r1, 0; @%p2 bra L; bra J;
        W: mov.u32 %r1, 7; st.volatile.shared.u32 [s], %r1;
        J: st.global.u32 [%rd1], %r1; ret;"""
    )
    assert out[:32].tolist() == [7] * 32
    assert "barrier-divergence" not in [f.kind for f in report.findings]


def test_threads_that_wait_in_a_chain_all_get_their_turn():
    # Thread t waits for t - 1 to write; each takes its turn of some thousand looks.
    out, _ = launch(
        """
        shl.b32 %r3, %r0, 2; mov.u32 %r4, s; add.u32 %r3, %r3, %r4; mov.u32 %r8, 0;
        st.shared.u32 [%r3], %r8; bar.sync 0; setp.eq.u32 %p1, %r0, 0; @%p1 bra W;
        L: ld.volatile.shared.u32 %r1, [%r3+-4]; setp.eq.u32 %p2, %r1, 0; @%p2 bra L;
        W: add.u32 %r1, %r1, 1; @%p1 mov.u32 %r1, 1; st.volatile.shared.u32 [%r3], %r1;
        st.global.u32 [%rd1], %r1; ret;""",
        threads=4,
    )
    assert out[:4].tolist() == [1, 2, 3, 4]


def test_who_waits_for_nobody_is_stopped_by_the_budget():
    with pytest.raises(ptx.InstructionBudgetError, match="k, PTX line"):
        launch(
            "st.shared.u32 [s], %r0; L: ld.volatile.shared.u32 %r1, [s]; "
            "setp.ne.u32 %p1, %r1, 99; @%p1 bra L; ret;"
        )


def reach(successors, start, without=None):
    seen, rest = set(), [start]
    while rest:
        at = rest.pop()
        if at not in seen and at != without:
            seen.add(at)
            rest += successors[at]
    return seen


def join_of(successors, branch):
    """The immediate post-dominator, by its definition: the nearest place that every path to an end passes."""
    ends = {i for i, after in enumerate(successors) if not after}
    if not reach(successors, branch) & ends:
        return None
    passed = [p for p in range(len(successors)) if p != branch and not reach(successors, branch, p) & ends]
    nearest = [p for p in passed if all(q == p or q not in reach(successors, branch, p) for q in passed)]
    return nearest[0] if nearest else None


@given(st.integers(2, 14), st.data())
def test_ranks_put_joins_behind_all_that_leads_to_them(count, data):
    successors = []
    for here in range(count):
        kind = data.draw(st.sampled_from(["next", "jump", "branch", "end"]))
        target = data.draw(st.integers(0, count - 1))
        last = here == count - 1
        after = {"next": (here + 1,), "jump": (target,), "branch": (here + 1, target), "end": ()}[kind]
        successors.append(tuple(a for a in after if a < count) if not last else ())
    rank = ranks(successors)
    assert sorted(rank) == list(range(count))

    for branch in reach(successors, 0):
        if len(set(successors[branch])) < 2:
            continue
        join = join_of(successors, branch)
        # A join that leads back to the branch is met in the next round of the loop; others come behind all.
        if join is None or branch in reach(successors, join):
            continue
        assert all(rank[i] < rank[join] for i in reach(successors, branch, join))


def test_a_barrier_behind_a_join_that_the_compiler_moved_is_not_divergent():
    source = """
    extern "C" __global__ void k(const int* x, int* out, int n) {
      __shared__ int s[96];
      int t = threadIdx.x, sum = 0;
      for (int i = 0; i < n; i++) {
        int v = 0;
        if (t + i < 70) { v = x[t + i]; if (v & 1) { if (v & 2) v = v * 3; else v += 5; } }
        else if (t & 1) v = i;
        s[t] = v;
        __syncthreads();
        sum += s[95 - t];
        __syncthreads();
      }
      out[t] = sum;
    }"""
    x = np.random.default_rng(0).integers(0, 1000, 96, dtype=np.int32)
    out = np.zeros(96, np.int32)
    report = ptx.parse(compile_ptx(source)).launch("k", 1, 96, [x, out, 5])
    assert report.findings == []
