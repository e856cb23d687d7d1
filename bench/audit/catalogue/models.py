"""Faults in NumPy models: with one of these the bench would judge devices by a wrong reference."""

from __future__ import annotations

from functools import partial

from bench.audit.planting import text_fault

_fault = partial(text_fault, "model")

FAULTS = [
    _fault(
        "wmma-saturates-low",
        "wmma with satfinite clamps at minus the largest number",
        "model-wmma",
        function="simulators.wmma.model:mma",
        old="_INT32.min, _INT32.max",
        new="-_INT32.max, _INT32.max",
    ),
    _fault(
        "wmma-loses-the-accumulator",
        "wmma adds C only where it is positive",
        "model-wmma",
        function="simulators.wmma.model:mma",
        old="return products + c",
        new="return products + np.maximum(c, 0)",
    ),
    _fault(
        "wmma-chain-forgets-a-part",
        "a long chain of wmma starts again from C where its sums are cut",
        "model-wmma-chain",
        function="simulators.wmma.model:mma_chain",
        old="_integer_product(left, right) + accumulator",
        new="_integer_product(left, right) + c",
    ),
    _fault(
        "vrmpy-broadcasts-one-byte",
        "vrmpy by a scalar multiplies with its first byte only",
        "model-vrmpy",
        function="simulators.hvx.instructions:vrmpy",
        old="v_lanes // 4, 4).astype(np.int32)",
        new="v_lanes // 4, 4)[..., [0, 1, 2, 2]].astype(np.int32)",
    ),
    _fault(
        "vrmpy-saturates",
        "vrmpy saturates where the instruction wraps",
        "model-vrmpy",
        function="simulators.hvx.instructions:vrmpy",
        old="return np.add(acc.view(np.uint32), products.view(np.uint32)).view(np.int32)",
        new="return np.clip(acc.astype(np.int64) + products, -(2**31), 2**31 - 1).astype(np.int32)",
    ),
    _fault(
        "vdmpy-wraps",
        "vdmpyhvsat wraps where the instruction saturates",
        "model-vdmpy",
        function="simulators.hvx.instructions:vdmpyhvsat",
        old="np.clip(total, limits.min, limits.max).astype(np.int32)",
        new="total.astype(np.int32)",
    ),
    _fault(
        "vta-gemm-weights-transposed",
        "VTA's GEMM multiplies with the weights transposed",
        "model-vta-gemm",
        function="simulators.vta.models:gemm",
        old=".astype(np.float64).swapaxes(-1, -2)",
        new=".astype(np.float64)",
    ),
    _fault(
        "vta-shift-towards-zero",
        "VTA's SHR rounds negative numbers towards zero",
        "model-vta-alu",
        function="simulators.vta.models:_shifted",
        old="right = x // 2 ** np.clip(y, 0, 32)",
        new="right = np.trunc(x / 2 ** np.clip(y, 0, 32)).astype(np.int64)",
    ),
    _fault(
        "requantise-ties-away",
        "requantisation rounds ties of negative numbers away from zero",
        "model-requantize",
        function="bench.evaluate.requantize:_divide",
        old="(twice >= divisor)",
        new="((twice > divisor) | ((twice == divisor) & (numerator > 0)))",
    ),
    _fault(
        "requantise-zero-point-first",
        "requantisation saturates before it adds the zero point",
        "model-requantize",
        function="bench.evaluate.requantize:requantize",
        old="np.clip(rounded + zero_point, *limits(target))",
        new="(np.clip(rounded, *limits(target)) + zero_point)",
    ),
    _fault(
        "requantise-even-is-odd",
        "rounding half to even takes the odd neighbour",
        "model-requantize",
        function="bench.evaluate.requantize:_divide",
        old="(quotient % 2 == 1)",
        new="(quotient % 2 == 0)",
    ),
]
