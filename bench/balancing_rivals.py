"""The others on the balancer's trees: acnportal's round robin and first come, and a quadratic program.

Each is prepared outside the measurement and timed for one answer. acnportal reckons in amperes: at 1,000 V one ampere is one kW.
The quadratic program minimises Σ (T − x)² with T above every request under all limits, which on a tree of limits has the max-min
allocation as its answer.
"""

import os
import warnings
from collections.abc import Callable
from importlib import import_module
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy: CPU time is compared, and ours has one thread

import numpy as np

from load_balancer import Demand, PowerNode

warnings.filterwarnings("ignore")
cvxpy: Any = import_module("cvxpy")
algorithms: Any = import_module("acnportal.algorithms")
interface: Any = import_module("acnportal.acnsim.interface")

Answer = dict[str, float]
VOLTS, PERIOD_MIN, LONG_KWH = 1000.0, 5.0, 1e6


def limits(nodes: list[PowerNode], demands: list[Demand]) -> tuple[Any, Any, Any]:
    """The limits above the leaves as a 0/1 matrix and a vector, and the most that each leaf can take by itself."""
    parent_of = {node.node_id: node.parent_id for node in nodes}
    rating = {node.node_id: node.limits[0].value_kw or 0.0 for node in nodes}
    column = {demand.leaf_id: number for number, demand in enumerate(demands)}
    row = {node_id: number for number, node_id in enumerate(node_id for node_id in parent_of if node_id not in column)}
    matrix = np.zeros((len(row), len(column)))
    for leaf_id, number in column.items():
        above = parent_of[leaf_id]
        while above is not None:
            matrix[row[above], number] = 1.0
            above = parent_of[above]
    most = np.array([min(demand.requested_kw, rating[demand.leaf_id]) for demand in demands])
    return matrix, np.array([rating[node_id] for node_id in row]), most


def quadratic_program(nodes: list[PowerNode], demands: list[Demand]) -> Callable[[], Answer]:
    """Built once; each run gives it the numbers and solves it."""
    matrix, capacity, most = limits(nodes, demands)
    share, request = cvxpy.Variable(len(demands)), cvxpy.Parameter(len(demands))
    problem = cvxpy.Problem(
        cvxpy.Minimize(cvxpy.sum_squares(share - 200.0)), [matrix @ share <= capacity, share >= 0, share <= request]
    )

    def run() -> Answer:
        request.value = most
        problem.solve(solver=cvxpy.CLARABEL)
        return {demand.leaf_id: float(power) for demand, power in zip(demands, share.value, strict=True)}

    return run


def remaining_amp_periods(session: Any) -> float:
    return session.remaining_demand * 60 / PERIOD_MIN


def acnportal(nodes: list[PowerNode], demands: list[Demand], algorithm: Any) -> Callable[[], Answer]:
    matrix, capacity, most = limits(nodes, demands)
    count, names = len(demands), [demand.leaf_id for demand in demands]
    infrastructure = interface.InfrastructureInfo(
        constraint_matrix=matrix,
        constraint_limits=capacity,
        phases=np.zeros(count),
        voltages=np.full(count, VOLTS),
        constraint_ids=[str(row) for row in range(len(capacity))],
        station_ids=names,
        max_pilot=most,
        min_pilot=np.zeros(count),
        is_continuous=np.ones(count, dtype=bool),
    )
    sessions = [
        interface.SessionInfo(name, name, LONG_KWH, 0.0, number, 10_000, current_time=0, max_rates=float(most[number]))
        for number, name in enumerate(names)
    ]
    algorithm.register_interface(
        SimpleNamespace(
            infrastructure_info=lambda: infrastructure,
            period=PERIOD_MIN,
            remaining_amp_periods=remaining_amp_periods,
        )
    )

    def run() -> Answer:
        return {name: float(rates[0]) for name, rates in algorithm.schedule(sessions).items()}

    return run


RIVALS: dict[str, Callable[[list[PowerNode], list[Demand]], Callable[[], Answer]]] = {
    "quadratic program": lambda nodes, demands: lambda: quadratic_program(nodes, demands)(),
    "the same, built beforehand": quadratic_program,
    "first come": lambda nodes, demands: acnportal(
        nodes, demands, algorithms.SortedSchedulingAlgo(algorithms.first_come_first_served)
    ),
    "round robin": lambda nodes, demands: acnportal(
        nodes, demands, algorithms.RoundRobin(algorithms.first_come_first_served, continuous_inc=1)
    ),
}
