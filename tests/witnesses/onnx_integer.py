"""onnxruntime's ConvInteger and MatMulInteger."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

TYPES = {"int8": TensorProto.INT8, "uint8": TensorProto.UINT8, "int32": TensorProto.INT32}


def is_exact() -> bool:
    """Whether onnxruntime multiplies uint8 by int8 exactly on this processor.

    Without VNNI instructions its kernels for x86-64 add pairs of products in 16 bits, which saturate.
    """
    information = Path("/proc/cpuinfo")
    text = information.read_text() if information.is_file() else ""
    return "vnni" in text or "avx2" not in text


def convolution(data: np.ndarray, weight: np.ndarray, **window: Any) -> np.ndarray:
    """ConvInteger of NCHW data and OIHW weights: int32 NCHW sums; `window` as TOSA's."""
    attributes = {
        "pads": list(window["padding"]),
        "strides": list(window["strides"]),
        "dilations": list(window["dilation"]),
    }
    return _run("ConvInteger", data, weight, attributes)


def matrix_product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """MatMulInteger of (..., M, K) and (..., K, N): int32."""
    return _run("MatMulInteger", left, right, {})


def _run(operator: str, left: np.ndarray, right: np.ndarray, attributes: dict[str, Any]) -> np.ndarray:
    inputs = {"left": left, "right": right}
    graph = helper.make_graph(
        [helper.make_node(operator, list(inputs), ["out"], **attributes)],
        "witness",
        [
            helper.make_tensor_value_info(name, TYPES[values.dtype.name], values.shape)
            for name, values in inputs.items()
        ],
        [helper.make_tensor_value_info("out", TensorProto.INT32, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (result,) = session.run(None, inputs)
    return result
