"""How far has the sharing come?"""

from dataclasses import dataclass

from load_balancer.water_level import Rises


@dataclass(slots=True)
class Settled:
    """What has been settled so far. Each demand: `given_kw`, the position of the node that holds it back (−1: none does).

    Each node: `free_kw`, neither given out nor set aside; the `level` at which it fills (infinite: never); whether it is `full`.
    `rises` is what the levels of a tier are reckoned from.
    """

    given_kw: list[float]
    held_by: list[int]
    free_kw: list[float]
    level: list[float]
    full: list[bool]
    rises: Rises
