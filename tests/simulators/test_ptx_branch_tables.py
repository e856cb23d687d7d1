"""brx.idx, which nvcc writes for a switch: each thread goes on at the label that its index chooses."""

import numpy as np
import pytest

from simulators import ptx

HEAD = ".version 8.0\n.target sm_80\n.address_size 64\n"

# out[t] = one of four things done to x[t], as w[t] says; then all add 1000 together.
SWITCH = (
    HEAD
    + """
.visible .entry k(.param .u64 x, .param .u64 w, .param .u64 out)
{
  .reg .pred %p<3>; .reg .b32 %r<6>; .reg .b64 %rd<5>;
  ld.param.u64 %rd1, [x]; ld.param.u64 %rd2, [w]; ld.param.u64 %rd3, [out];
  mov.u32 %r0, %ctaid.x; mov.u32 %r1, %ntid.x; mov.u32 %r2, %tid.x;
  mad.lo.u32 %r0, %r0, %r1, %r2;
  mul.wide.u32 %rd4, %r0, 4;
  add.u64 %rd1, %rd1, %rd4; add.u64 %rd2, %rd2, %rd4; add.u64 %rd3, %rd3, %rd4;
  ld.global.u32 %r3, [%rd1]; ld.global.u32 %r4, [%rd2];
  setp.gt.u32 %p1, %r4, 3;
  @%p1 bra $other;
$table: .branchtargets
    $zero,
    $one, $two,
    $one;
  brx.idx %r4, $table;
$zero:
  add.s32 %r3, %r3, 7;
  bra.uni $end;
$one:
  mul.lo.s32 %r3, %r3, 3;
  bra.uni $end;
$two:
  neg.s32 %r3, %r3;
$other:
  xor.b32 %r3, %r3, 85;
$end:
  add.s32 %r3, %r3, 1000;
  st.global.u32 [%rd3], %r3;
  ret;
}
"""
)


def expected(x, w):
    choices = {0: lambda v: v + 7, 1: lambda v: 3 * v, 2: lambda v: -v ^ 85, 3: lambda v: 3 * v}
    return [choices.get(int(k), lambda v: v ^ 85)(int(v)) + 1000 for v, k in zip(x, w, strict=True)]


@pytest.mark.parametrize(
    "w",
    [
        np.arange(96) % 6,
        np.repeat([2, 0, 5], 32),
        np.full(96, 1),
        np.random.default_rng(4).integers(0, 5, 96),
    ],
    ids=["every lane another", "every warp another", "all alike", "random"],
)
def test_each_thread_goes_where_its_index_says_and_all_meet_again(w):
    x, out = np.random.default_rng(5).integers(-1000, 1000, 96, dtype=np.int32), np.zeros(96, np.int32)
    report = ptx.parse(SWITCH).launch("k", 3, 32, [x, w.astype(np.int32), out])
    assert out.tolist() == expected(x, w)
    assert report.findings == []
    # What follows the join is issued once for each warp: the threads have met.
    assert report.counters["instructions.st"] == 3
    assert report.counters["instructions.ret"] == 3


LOOP = (
    HEAD
    + """
.visible .entry k(.param .u64 out)
{
  .reg .pred %p<3>; .reg .b32 %r<6>; .reg .b64 %rd<3>;
  mov.u32 %r0, %tid.x; mov.u32 %r1, 0; mov.u32 %r2, 0;
list: .branchtargets even, odd;
$again:
  add.u32 %r3, %r0, %r1; and.b32 %r3, %r3, 1;
  setp.lt.u32 %p1, %r1, 5;
  @%p1 brx.idx.uni %r3, list;
  bra $done;
even:
  add.u32 %r2, %r2, 100; add.u32 %r1, %r1, 1;
  bra $again;
odd:
  add.u32 %r2, %r2, 1; add.u32 %r1, %r1, 2;
  bra $again;
$done:
  ld.param.u64 %rd0, [out]; mul.wide.u32 %rd1, %r0, 4; add.u64 %rd0, %rd0, %rd1;
  st.global.u32 [%rd0], %r2;
  ret;
}
"""
)


def test_a_guarded_table_in_a_loop():
    out = np.zeros(64, np.int32)
    report = ptx.parse(LOOP).launch("k", 1, 64, [out])
    want = []
    for thread in range(64):
        step = total = 0
        while step < 5:
            odd = (thread + step) & 1
            total, step = total + (1 if odd else 100), step + (2 if odd else 1)
        want.append(total)
    assert out.tolist() == want
    assert report.findings == []


def test_a_table_in_a_function_that_is_called_twice():
    text = (
        HEAD
        + """
.func (.param .b32 result) pick(.param .b32 which)
{
  .reg .b32 %r<3>;
  ld.param.b32 %r0, [which];
  here: .branchtargets a, b;
  brx.idx %r0, here;
a: mov.u32 %r1, 11; bra end;
b: mov.u32 %r1, 22;
end: st.param.b32 [result], %r1;
  ret;
}
.visible .entry k(.param .u64 out)
{
  .reg .b32 %r<6>; .reg .b64 %rd<3>;
  mov.u32 %r0, %tid.x; and.b32 %r1, %r0, 1; xor.b32 %r2, %r1, 1;
  { .param .b32 p; .param .b32 q; st.param.b32 [p], %r1; call.uni (q), pick, (p); ld.param.b32 %r3, [q]; }
  { .param .b32 p; .param .b32 q; st.param.b32 [p], %r2; call.uni (q), pick, (p); ld.param.b32 %r4, [q]; }
  mad.lo.u32 %r3, %r3, 100, %r4;
  ld.param.u64 %rd0, [out]; mul.wide.u32 %rd1, %r0, 4; add.u64 %rd0, %rd0, %rd1;
  st.global.u32 [%rd0], %r3;
  ret;
}
"""
    )
    out = np.zeros(32, np.int32)
    ptx.parse(text).launch("k", 1, 32, [out])
    assert out.tolist() == [1122, 2211] * 16


def edited(old, new):
    assert old in SWITCH
    return SWITCH.replace(old, new)


def test_an_index_beyond_the_table_is_an_error_that_names_it():
    x = np.zeros(32, np.int32)
    w = np.arange(32, dtype=np.int32) % 5
    module = ptx.parse(edited("@%p1 bra $other;", ""))
    with pytest.raises(ptx.IllegalAddressError, match=r"line 20 \(brx\.idx\): label 4 of a list of 4"):
        module.launch("k", 1, 32, [x, w, x.copy()])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("brx.idx %r4, $table", "brx.idx %r4, $tables", r"line 20: brx\.idx: no \.branchtargets '\$tables'"),
        ("brx.idx %r4, $table", "brx.idx %r4", r"line 20: brx\.idx: no \.branchtargets '%r4'"),
        ("$one, $two,", "$one, $three,", r"line 20: brx\.idx: no label \$three in this kernel"),
        ("$one, $two,", "$one, 2,", "line 18: expected a label, found '2'"),
    ],
    ids=["no such list", "no list", "no such label", "no label"],
)
def test_a_table_that_is_none_is_an_error_that_names_the_line(old, new, message):
    with pytest.raises(ptx.PtxSyntaxError, match=message):
        ptx.parse(edited(old, new)).launch("k", 1, 32, [np.zeros(32, np.int32)] * 3)
