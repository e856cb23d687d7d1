"""How a plain description carries the parameters from which its HVX code is written."""

import json
from typing import Any

from tvm.tirx import PrimFunc

_ATTRIBUTE = "bitexact.hexagon"


def describe(primfunc: PrimFunc, operator: str, parameters: dict[str, Any]) -> PrimFunc:
    """Attach an operator's name and parameters (numbers, text, tuples of them) to its plain description."""
    return primfunc.with_attr(_ATTRIBUTE, json.dumps({"operator": operator, "parameters": parameters}))


def described(primfunc: PrimFunc, operator: str) -> dict[str, Any]:
    """Give the parameters that `describe` attached.

    Raises ValueError where the function is no description of this operator.
    """
    text = (primfunc.attrs or {}).get(_ATTRIBUTE)
    found: dict[str, Any] = json.loads(str(text)) if text is not None else {"operator": "nothing known here"}
    if found["operator"] != operator:
        raise ValueError(f"expected the description of {operator}, not of {found['operator']}")
    return {name: _tuples(value) for name, value in found["parameters"].items()}


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
