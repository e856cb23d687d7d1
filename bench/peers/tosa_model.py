"""TOSA's reference model: a convolution or a matrix product of bytes, as the model's own executable runs it.

It needs `tosa_reference_model` of the package tosa-tools, which asks for older NumPy and ml_dtypes
than the bench does: install it into an environment of its own, as `INSTALL` says.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

VARIABLE = "TOSA_TOOLS_BIN_DIR"
INSTALL = (
    "TOSA's reference model is missing: python3.11 -m venv .tosa && "
    ".tosa/bin/pip install tosa-tools==2026.8.0 && "
    f"export {VARIABLE}=$PWD/.tosa/lib/python3.11/site-packages/bin"
)


def executable() -> Path | None:
    """Where the reference model is: in the folder that the environment names, or on the path of commands."""
    folder = os.environ.get(VARIABLE)
    found = shutil.which("tosa_reference_model", path=folder)
    return Path(found) if found and Path(found).with_name("tosa.fbs").is_file() else None


def convolution(data: np.ndarray, weight: np.ndarray, folder: Path, **window: Any) -> np.ndarray:
    """CONV2D of NHWC data and OHWI weights, int8 or uint8: int32 NHWC sums.

    `window` is strides, padding (top, left, bottom, right) and dilation.
    """
    top, left, bottom, right = window["padding"]
    attribute = {
        "pad": [top, bottom, left, right],
        "stride": list(window["strides"]),
        "dilation": list(window["dilation"]),
        "local_bound": False,
        "acc_type": "INT32",
    }
    reach = [(size - 1) * step + 1 for size, step in zip(weight.shape[1:3], window["dilation"], strict=True)]
    rows = (data.shape[1] + top + bottom - reach[0]) // window["strides"][0] + 1
    columns = (data.shape[2] + left + right - reach[1]) // window["strides"][1] + 1
    bias = _constant("bias", np.zeros(len(weight), np.int32))
    shape = (len(data), rows, columns, len(weight))
    return _run("CONV2D", attribute, (data, weight), [bias], shape, folder)


def matrix_product(left: np.ndarray, right: np.ndarray, folder: Path) -> np.ndarray:
    """MATMUL of (B, M, K) and (B, K, N), int8 or uint8: int32 (B, M, N)."""
    return _run("MATMUL", {}, (left, right), [], (*left.shape[:2], right.shape[2]), folder)


def _run(  # noqa: PLR0917
    operator: str,
    attribute: dict[str, Any],
    operands: tuple[np.ndarray, np.ndarray],
    constants: list[dict[str, Any]],
    shape: tuple[int, ...],
    folder: Path,
) -> np.ndarray:
    found = executable()
    assert found, INSTALL
    tensors, names = [], ("left", "right")
    zeros = []
    for name, values in zip(names, operands, strict=True):
        # The operators take int8 and a zero point: that of bytes without a sign is -128.
        unsigned = values.dtype == np.uint8
        signed = (values.astype(np.int16) - 128).astype(np.int8) if unsigned else values
        np.save(folder / f"{name}.npy", signed)
        tensors.append(_tensor(name, values.shape, "INT8"))
        zeros.append(_constant(f"{name}_zero", np.array([-128 if unsigned else 0], np.int8)))
    constants = [*constants, *zeros]
    kinds = {"CONV2D": "Conv2dAttribute", "MATMUL": "MatMulAttribute", "CONST": "ConstAttribute"}

    def call(op: str, inputs: list[str], output: str, attribute: dict[str, Any]) -> dict[str, Any]:
        return {
            "op": op,
            "attribute_type": kinds[op],
            "attribute": attribute,
            "inputs": inputs,
            "outputs": [output],
        }

    given = [constant["name"] for constant in constants]
    block = {
        "name": "main",
        "operators": [
            *(call("CONST", [], name, {}) for name in given),
            call(operator, [*names, *given], "out", attribute),
        ],
        "tensors": [*tensors, *constants, _tensor("out", shape, "INT32")],
        "inputs": list(names),
        "outputs": ["out"],
        "shapes": [],
    }
    graph = {
        "version": {"_major": 1, "_minor": 0, "_patch": 0, "_draft": False},
        "regions": [{"name": "main", "blocks": [block]}],
    }
    (folder / "graph.json").write_text(json.dumps(graph))
    files = {
        "--tosa_file": "graph.json",
        "--operator_fbs": str(found.with_name("tosa.fbs")),
        "--ifm_name": ",".join(names),
        "--ifm_file": ",".join(f"{name}.npy" for name in names),
        "--ofm_name": "out",
        "--ofm_file": "out.npy",
        "--flatbuffer_dir": ".",
        "--output_dir": ".",
    }
    command = [str(found), *(word for pair in files.items() for word in pair)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise RuntimeError(f"TOSA's reference model: {done.stdout}{done.stderr}")
    return np.load(folder / "out.npy")


def _tensor(name: str, shape: tuple[int, ...], dtype: str) -> dict[str, Any]:
    return {
        "name": name,
        "shape": list(shape),
        "type": dtype,
        "variable": False,
        "is_unranked": False,
        "variable_name": "",
    }


def _constant(name: str, values: np.ndarray) -> dict[str, Any]:
    dtype = {"int8": "INT8", "int32": "INT32"}[values.dtype.name]
    return {**_tensor(name, values.shape, dtype), "data": list(values.tobytes())}
