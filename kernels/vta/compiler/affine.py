"""Addresses and conditions as affine functions of loop variables, and the boxes that conditions cut out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from tvm import tirx


class NotAffineError(ValueError):
    """An expression that is no sum of loop variables times constants."""


Variable: TypeAlias = int
"""A loop variable of one function: comparing TVM's own builds an expression."""


def variable(expression: tirx.Var) -> Variable:
    """Return the number that stands for a variable as long as its function exists."""
    return hash(expression)


@dataclass(frozen=True)
class Affine:
    """constant + Σ factors[variable] · variable; no factor is zero."""

    constant: int
    factors: Mapping[Variable, int]

    def __add__(self, other: "Affine") -> "Affine":
        factors = dict(self.factors)
        for each, factor in other.factors.items():
            factors[each] = factors.get(each, 0) + factor
        return Affine(
            self.constant + other.constant, {each: factor for each, factor in factors.items() if factor}
        )

    def scaled(self, by: int) -> "Affine":
        """Return the function times a number."""
        if by == 0:
            return Affine(0, {})
        return Affine(self.constant * by, {each: factor * by for each, factor in self.factors.items()})

    def at(self, values: Mapping[Variable, int]) -> "Affine":
        """Return the function with some of its variables replaced by numbers."""
        constant, factors = self.constant, {}
        for each, factor in self.factors.items():
            if each in values:
                constant += factor * values[each]
            else:
                factors[each] = factor
        return Affine(constant, factors)

    def parts(self, by: int) -> "tuple[Affine, int] | None":
        """Return quotient and rest of a division, or None where the rest depends on a variable."""
        if by <= 0 or any(factor % by for factor in self.factors.values()):
            return None
        factors = {each: factor // by for each, factor in self.factors.items()}
        return Affine(self.constant // by, factors), self.constant % by

    def divided(self, by: int) -> "Affine | None":
        """Return the function divided by a number, or None where a part of it leaves a rest."""
        if self.constant % by or any(factor % by for factor in self.factors.values()):
            return None
        return Affine(self.constant // by, {each: factor // by for each, factor in self.factors.items()})


def constant(value: int) -> Affine:
    """Return the function that is a number."""
    return Affine(value, {})


def affine(expression: tirx.Expr) -> Affine:  # noqa: PLR0911 - a case each
    """Read an expression; NotAffineError where it is not affine."""
    match expression:
        case tirx.IntImm():
            return constant(int(expression.value))
        case tirx.Var():
            return Affine(0, {variable(expression): 1})
        case tirx.Cast():
            return affine(expression.value)
        case tirx.Add():
            return affine(expression.a) + affine(expression.b)
        case tirx.Sub():
            return affine(expression.a) + affine(expression.b).scaled(-1)
        case tirx.Mul():
            left, right = affine(expression.a), affine(expression.b)
            if not left.factors:
                return right.scaled(left.constant)
            if not right.factors:
                return left.scaled(right.constant)
        case tirx.FloorDiv():
            left, right = affine(expression.a), affine(expression.b)
            if not right.factors and (parts := left.parts(right.constant)):
                return parts[0]
        case tirx.FloorMod():
            left, right = affine(expression.a), affine(expression.b)
            if not right.factors and (parts := left.parts(right.constant)):
                return constant(parts[1])
    raise NotAffineError(f"{expression} is no sum of loop variables times constants")


Conditions = tuple[Affine, ...]
"""Functions that are not negative."""


def conditions(expression: tirx.Expr) -> Conditions:  # noqa: PLR0911 - a case each
    """Read a conjunction of comparisons; NotAffineError where it is none."""
    match expression:
        case tirx.And():
            return conditions(expression.a) + conditions(expression.b)
        case tirx.LE():
            return (affine(expression.b) + affine(expression.a).scaled(-1),)
        case tirx.LT():
            return (affine(expression.b) + affine(expression.a).scaled(-1) + constant(-1),)
        case tirx.GE():
            return (affine(expression.a) + affine(expression.b).scaled(-1),)
        case tirx.GT():
            return (affine(expression.a) + affine(expression.b).scaled(-1) + constant(-1),)
        case tirx.EQ():
            difference = affine(expression.a) + affine(expression.b).scaled(-1)
            return (difference, difference.scaled(-1))
        case tirx.IntImm():
            return (constant(0 if expression.value else -1),)
    raise NotAffineError(f"{expression} is no conjunction of affine comparisons")


Box = dict[Variable, range]
"""The values of each loop variable."""


def boxes(loops: Box, where: Sequence[Affine]) -> Iterator[Box]:
    """Cut the part of a box where no condition is negative into boxes; a variable may have a single value.

    A condition on one variable bounds it. Where one has several, the first of them in the order of the loops
    is unrolled.
    """
    bounded, rest = bound(loops, where)
    if bounded is None:
        return
    if not rest:
        yield bounded
        return
    unrolled = next(name for name in loops if any(name in each.factors for each in rest))
    for value in bounded[unrolled]:
        fixed = [each.at({unrolled: value}) for each in rest]
        yield from boxes({**bounded, unrolled: range(value, value + 1)}, fixed)


def bound(loops: Box, where: Sequence[Affine]) -> tuple[Box | None, list[Affine]]:
    """Apply the conditions on one variable each; return the box, None where it is empty, and the rest."""
    bounded = dict(loops)
    rest: list[Affine] = []
    for each in where:
        if not each.factors:
            if each.constant < 0:
                return None, []
        elif len(each.factors) == 1:
            ((name, factor),) = each.factors.items()
            bounded[name] = _bounded(bounded[name], factor, each.constant)
        else:
            rest.append(each)
    return (bounded if all(bounded.values()) else None), rest


def reach(place: Affine, box: Box) -> tuple[int, int]:
    """Return the least and the greatest value over a box."""
    ends = [(factor * box[each][0], factor * box[each][-1]) for each, factor in place.factors.items()]
    return place.constant + sum(map(min, ends)), place.constant + sum(map(max, ends))


def _bounded(values: range, factor: int, offset: int) -> range:
    """Return the values for which factor · value + offset is not negative."""
    if factor > 0:
        return range(max(values.start, -(offset // factor)), values.stop)
    return range(values.start, min(values.stop, offset // -factor + 1))
