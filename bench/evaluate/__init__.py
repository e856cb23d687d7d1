"""NumPy evaluation of a Relax graph, operator by operator: the meaning that a device must reproduce."""

from bench.evaluate import arithmetic, convolution, int4, pooling, requantize, resize, rounding, shape
from bench.evaluate.graph import evaluate, evaluate_all
from bench.evaluate.registry import OPERATORS, Evaluator, OperatorCall

__all__ = [
    "OPERATORS",
    "Evaluator",
    "OperatorCall",
    "arithmetic",
    "convolution",
    "evaluate",
    "evaluate_all",
    "int4",
    "pooling",
    "requantize",
    "resize",
    "rounding",
    "shape",
]
