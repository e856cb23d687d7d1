"""Peers as subjects: what a user would take instead, on the operands of one layer or of many."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.efficiency import LayerShapes
from bench.peers import numpy_int32, tosa_model
from bench.perf.rounds import Subject

NUMPY, ONNXRUNTIME, TOSA, CEILING = (
    "NumPy int32",
    "onnxruntime",
    "TOSA reference model",
    "QEMU, vrmpy alone",
)


@dataclass(frozen=True)
class Operands:
    """A layer's operands, plain: NCHW and OIHW, or N, C and O, C. ``groups`` is not 1 of grouped layers."""

    data: np.ndarray
    weight: np.ndarray
    shapes: LayerShapes
    groups: int = 1

    @property
    def window(self) -> dict[str, Sequence[int]]:
        """Strides, padding and dilation."""
        shapes = self.shapes
        return {"strides": shapes.strides, "padding": shapes.padding, "dilation": shapes.dilation}

    @property
    def is_dense(self) -> bool:
        """Whether it is a dense layer."""
        return self.data.ndim == 2


def in_numpy(layer: Operands) -> np.ndarray:
    """The layer's sums, by NumPy's int32 product."""
    if layer.is_dense:
        return numpy_int32.matrix_product(layer.data, layer.weight.T)
    return np.concatenate(
        [
            numpy_int32.convolution(data, weight, **layer.window)
            for data, weight in zip(
                np.split(layer.data, layer.groups, axis=1), np.split(layer.weight, layer.groups), strict=True
            )
        ],
        axis=1,
    )


def numpy_subject(layers: Sequence[Operands]) -> Subject:
    """NumPy's int32 product of all layers."""

    def run() -> None:
        for layer in layers:
            in_numpy(layer)

    return Subject(NUMPY, run, peer=True)


def onnxruntime_subject(layers: Sequence[Operands]) -> Subject:
    """ConvInteger and MatMulInteger of all layers, on one thread. ImportError where it is not installed."""
    from bench.peers import onnx_integer

    products = [
        onnx_integer.Product("MatMulInteger", layer.data, np.ascontiguousarray(layer.weight.T), {})
        if layer.is_dense
        else onnx_integer.Product(
            "ConvInteger",
            layer.data,
            layer.weight,
            {**onnx_integer.attributes_of(**layer.window), "group": layer.groups},
        )
        for layer in layers
    ]
    session = onnx_integer.session(products, threads=1)
    inputs = {
        name: values
        for number, product in enumerate(products)
        for name, values in product.inputs(str(number)).items()
    }
    return Subject(ONNXRUNTIME, lambda: session.run(None, inputs), peer=True)


def tosa_subject(layer: Operands) -> Subject:
    """TOSA's reference model as its executable is called. FileNotFoundError where it is not installed."""
    if tosa_model.executable() is None:
        raise FileNotFoundError(tosa_model.INSTALL)
    if layer.is_dense:
        left, right = layer.data[np.newaxis], np.ascontiguousarray(layer.weight.T)[np.newaxis]
        return Subject(
            TOSA, lambda: _in_folder(lambda at: tosa_model.matrix_product(left, right, at)), peer=True
        )
    data = np.ascontiguousarray(layer.data.transpose(0, 2, 3, 1))
    weight = np.ascontiguousarray(layer.weight.transpose(0, 2, 3, 1))
    return Subject(
        TOSA,
        lambda: _in_folder(lambda at: tosa_model.convolution(data, weight, at, **layer.window)),
        peer=True,
    )


def _in_folder(run: Callable[[Path], np.ndarray]) -> np.ndarray:
    with tempfile.TemporaryDirectory(prefix="bitexact-") as name:
        return run(Path(name))
