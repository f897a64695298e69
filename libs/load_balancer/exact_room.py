"""Does this much more still fit, exactly?

Yes-or-no questions (may this minimum be admitted, may this step be given) must not hang on rounding, so they are answered in
whole numbers: a power becomes a multiple of 2⁻⁸⁰ kW, which holds any float of practical size exactly. What an engineer checks
afterwards is `allocated_kw + base_load_kw <= limit_kw` in floats, so the room of a node is the largest sum that rounds to no
more than its limit. With `slack`, a sum counts as fitting although it is that share above the limit.
"""

from math import ceil, inf, nextafter, ulp
from typing import Final

from load_balancer.tree import Tree

_SCALE: Final = 2.0**80
_WHOLE: Final = 2**80


def units(power_kw: float) -> int:
    """`power_kw` in units of 2⁻⁸⁰ kW, rounded up where even that is too coarse."""
    return ceil(power_kw * _SCALE)


class ExactRoom:
    """What is left under each node, as whole numbers."""

    def __init__(self, tree: Tree, slack: float = 0.0) -> None:
        self._parents = tree.parents
        self._left = [
            None if limit == inf else _room(limit * (1.0 + slack), base)
            for limit, base in zip(tree.limit_kw, tree.base_load_kw, strict=True)
        ]

    def shortage(self, spot: int, amount: int) -> int:
        """The node nearest to `spot`, itself included, under which `amount` more does not fit; −1 if it fits under all."""
        at = spot
        while at >= 0:
            left = self._left[at]
            if left is not None and left < amount:
                return at
            at = self._parents[at]
        return -1

    def take(self, spot: int, amount: int) -> None:
        """Use `amount` under `spot` and every node above it."""
        at = spot
        while at >= 0:
            left = self._left[at]
            if left is not None:
                self._left[at] = left - amount
            at = self._parents[at]

    def left_kw(self, at: int) -> float:
        """What is left under a node, in kW; infinite if it has no limit."""
        left = self._left[at]
        return inf if left is None else left / _WHOLE


def _room(limit_kw: float, base_load_kw: float) -> int:
    """The largest sum, in units, that added to `base_load_kw` as a float is no more than `limit_kw`."""
    left = max(0, _largest_sum(limit_kw) - units(base_load_kw))
    left_kw = left / _WHOLE
    return _largest_sum(left_kw if int(left_kw * _SCALE) <= left else nextafter(left_kw, 0.0))


def _largest_sum(limit_kw: float) -> int:
    """The largest sum, in units, that as a float is no more than `limit_kw`."""
    most = int(limit_kw * _SCALE) + int(ulp(limit_kw) / 2.0 * _SCALE)
    return most if most / _WHOLE <= limit_kw else most - 1
