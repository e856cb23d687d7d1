"""The options of `quantize`, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.operators import ROUNDINGS
from bench.passes.scales import METHODS

SCHEMES = ("fixed", "pow2")
DATA_DTYPES = ("int8", "uint8", "mixed")
OUTPUT_DTYPES = ("int8", "uint8", "int32")
GLOBAL = "global"
BITS = (8, 4)


@dataclass(frozen=True)
class Options:
    """What `bench.passes.quantize` was asked for, defaults filled in."""

    power_of_two: bool
    data_dtype: str
    rounding: str
    per_channel: bool
    output_dtype: str
    data_scale: str
    weight_scale: str
    global_scale: float
    skip_layers: tuple[str | int, ...]
    bits: int
    eight_bit_layers: tuple[str | int, ...]

    @staticmethod
    def check(
        *,
        scheme: str,
        data_dtype: str,
        rounding: str,
        per_channel: bool | None,
        output_dtype: str | None,
        data_scale: str | None,
        weight_scale: str | None,
        global_scale: float,
        skip_layers: Sequence[str | int],
        bits: int,
        eight_bit_layers: Sequence[str | int],
    ) -> Options:
        """The options that these arguments mean; ValueError names the one that is none."""
        _one_of("scheme", scheme, SCHEMES)
        power_of_two = scheme == "pow2"
        _one_of(
            f"rounding of scheme {scheme!r}", rounding, ("half_up", "floor") if power_of_two else ROUNDINGS
        )
        if power_of_two and per_channel:
            raise ValueError(
                "per_channel: scheme 'pow2' has one weight scale a tensor, a shift has no channels"
            )
        default_method = "least_error" if power_of_two else "maximum"
        return Options(
            power_of_two=power_of_two,
            data_dtype=data_dtype,
            rounding=rounding,
            per_channel=not power_of_two if per_channel is None else per_channel,
            output_dtype=output_dtype or ("int8" if power_of_two else "int32"),
            data_scale=data_scale or default_method,
            weight_scale=weight_scale or default_method,
            global_scale=float(global_scale),
            skip_layers=_several(skip_layers),
            bits=bits,
            eight_bit_layers=_several(eight_bit_layers),
        )

    def __post_init__(self) -> None:
        if self.bits not in BITS:
            raise ValueError(f"bits {self.bits} is none of {', '.join(map(str, BITS))}")
        _one_of("data_dtype", self.data_dtype, DATA_DTYPES)
        _one_of("output_dtype", self.output_dtype, OUTPUT_DTYPES)
        _one_of("data_scale", self.data_scale, (*METHODS, GLOBAL))
        _one_of("weight_scale", self.weight_scale, METHODS)
        if not 0 < self.global_scale < float("inf"):
            raise ValueError(f"global_scale {self.global_scale} is not above 0")

    @property
    def needs_values(self) -> bool:
        """Whether scales are chosen by more than the ends of the calibrated values."""
        return self.data_scale == "least_error"

    def data_type(self, *, non_negative: bool, bits: int | None = None) -> str:
        """Element type of a tensor as data, of as many bits as the options say where none are given."""
        unsigned = non_negative if self.data_dtype == "mixed" else self.data_dtype == "uint8"
        return f"{'uint' if unsigned else 'int'}{bits or self.bits}"


def _several(layers: Sequence[str | int]) -> tuple[str | int, ...]:
    return (layers,) if isinstance(layers, str) else tuple(layers)


def _one_of(name: str, value: str, valid: Sequence[str]) -> None:
    if value not in valid:
        raise ValueError(f"{name} {value!r} is none of {', '.join(valid)}")
