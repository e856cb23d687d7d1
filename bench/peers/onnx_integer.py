"""onnxruntime's ConvInteger and MatMulInteger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
    return _run("ConvInteger", data, weight, attributes_of(**window))


def attributes_of(
    *, padding: Sequence[int], strides: Sequence[int], dilation: Sequence[int]
) -> dict[str, Any]:
    """A window as ONNX has it; ``padding`` is top, left, bottom, right."""
    return {"pads": list(padding), "strides": list(strides), "dilations": list(dilation)}


def matrix_product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """MatMulInteger of (..., M, K) and (..., K, N): int32."""
    return _run("MatMulInteger", left, right, {})


def _run(operator: str, left: np.ndarray, right: np.ndarray, attributes: dict[str, Any]) -> np.ndarray:
    product = Product(operator, left, right, attributes)
    (result,) = session([product]).run(None, product.inputs("0"))
    return result


@dataclass(frozen=True)
class Product:
    """One ConvInteger or MatMulInteger with its operands."""

    operator: str
    left: np.ndarray
    right: np.ndarray
    attributes: dict[str, Any]

    def inputs(self, name: str) -> dict[str, np.ndarray]:
        """Its operands by the names that they have in a model in which it is called ``name``."""
        return {f"left{name}": self.left, f"right{name}": self.right}


def session(products: Sequence[Product], *, threads: int = 0) -> onnxruntime.InferenceSession:
    """A session that computes some products, named by their numbers; 0 ``threads`` are all there are."""
    inputs, outputs, nodes = [], [], []
    for number, product in enumerate(products):
        given = product.inputs(str(number))
        inputs += [
            helper.make_tensor_value_info(name, TYPES[values.dtype.name], values.shape)
            for name, values in given.items()
        ]
        outputs.append(helper.make_tensor_value_info(f"out{number}", TensorProto.INT32, None))
        nodes.append(helper.make_node(product.operator, list(given), [f"out{number}"], **product.attributes))
    graph = helper.make_graph(nodes, "products", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
