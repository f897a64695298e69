"""Draws the pictures of docs/load-balancing.md from what the balancer really answers: `python bench/balancing_pictures.py`."""

import json
from pathlib import Path

from load_balancer import Allocated, Demand, PowerNode
from load_balancer.json_form import Case, read_case

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "images"
SCENARIO = ROOT / "contracts" / "balancing" / "c2-unequal-demands.json"
COLOURS = {"GC": "#2b6cb0", "K1": "#805ad5", "K2": "#c05621", "K3": "#2f855a", "K4": "#b83280", None: "#a0aec0"}
FONT = 'font-family="system-ui, sans-serif" font-size="12" fill="#4a5568"'
CIRCUITS = ("K1", "K2", "K3", "K4")


def text(x: float, y: float, words: str, anchor: str = "middle", colour: str = "#4a5568") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {FONT.replace("#4a5568", colour)}>{words}</text>'


def line(x1: float, y1: float, x2: float, y2: float, colour: str, dashes: str = "") -> str:
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="2"{dashed}/>'


def picture(width: int, height: int, title: str, parts: list[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{title}">'
    return "\n".join(
        [head, f"<title>{title}</title>", f'<rect width="{width}" height="{height}" fill="#ffffff"/>', *parts, "</svg>\n"]
    )


def vessels(result: Allocated) -> str:
    """Sixteen chargers as vessels, grouped by circuit: outline what is asked for, fill what is given, colour what binds."""
    parts: list[str] = []
    for group, circuit in enumerate(CIRCUITS):
        left = 50 + group * 170
        rows = [leaf for leaf in result.leaves if leaf.leaf_id.startswith(circuit)]
        for number, leaf in enumerate(rows):
            x = left + number * 36
            asked, given = leaf.requested_kw * 1.2, leaf.allocated_kw * 1.2
            colour = COLOURS[leaf.binding_node_id]
            parts.append(
                f'<rect x="{x}" y="{220 - given:.1f}" width="28" height="{given:.1f}" fill="{colour}" fill-opacity="0.75"/>'
            )
            parts.append(f'<rect x="{x}" y="{220 - asked:.1f}" width="28" height="{asked:.1f}" fill="none" stroke="#4a5568"/>')
            parts.append(text(x + 14, 236, f"{leaf.allocated_kw:.1f}".removesuffix(".0")))
        node = result.node(circuit)
        assert node is not None
        parts.append(text(left + 68, 258, f"{circuit}: {node.allocated_kw:.0f} of {node.limit_kw:.0f} kW"))
        if node.saturated and node.saturation_level is not None:
            y = 220 - node.saturation_level * 1.2
            parts.append(line(left - 6, y, left + 142, y, COLOURS[circuit]))
            parts.append(text(left + 142, y - 5, f"{circuit} is full at {node.saturation_level:.1f}", "end", COLOURS[circuit]))
    grid = result.node("GC")
    assert grid is not None
    assert grid.saturation_level is not None
    y = 220 - grid.saturation_level * 1.2
    parts.append(line(36, y, 708, y, COLOURS["GC"], "6 5"))
    parts.append(text(708, y - 5, f"GC is full at {grid.saturation_level:.1f}", "end", COLOURS["GC"]))
    parts.append(
        text(50, 24, "outline: asked for · fill: given, in the colour of what binds (grey: all it asked for) · kW", "start")
    )
    return picture(740, 272, "Allocations of sixteen chargers as water levels", parts)


def rising(case: Case, result: Allocated) -> str:
    """What flows through each node as the level rises, and where it meets the node's limit."""
    most_level, most_kw = 80.0, 520.0

    def x(level: float) -> float:
        return 60 + level / most_level * 600

    def y(power: float) -> float:
        return 300 - power / most_kw * 260

    parts = [line(60, 300, 660, 300, "#4a5568"), line(60, 40, 60, 300, "#4a5568")]
    parts += [text(x(level), 318, f"{level}") for level in range(0, 81, 10)]
    parts += [text(54, y(power) + 4, f"{power}", "end") for power in range(0, 501, 100)]
    parts += [text(360, 338, "level: kW per unit of weight"), text(60, 28, "kW through the node", "start")]
    levels = [float(step) for step in range(81)]
    for name in ("GC", *CIRCUITS):
        node = result.node(name)
        assert node is not None
        points = " ".join(f"{x(level):.1f},{y(flow(case.nodes, case.demands, result, name, level)):.1f}" for level in levels)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{COLOURS[name]}" stroke-width="2"/>')
        end = flow(case.nodes, case.demands, result, name, most_level)
        parts.append(text(666, y(end) + (9 if name == "K3" else 1), name, "start", COLOURS[name]))
        if node.saturated and node.saturation_level is not None and node.limit_kw is not None:
            at = node.saturation_level
            parts.append(f'<circle cx="{x(at):.1f}" cy="{y(node.limit_kw):.1f}" r="5" fill="{COLOURS[name]}"/>')
            parts.append(text(x(at) - 8, y(node.limit_kw) - 8, f"{node.limit_kw:.0f} kW at {at:.1f}", "end", COLOURS[name]))
    return picture(700, 348, "Flow through each node as the level rises", parts)


def flow(nodes: tuple[PowerNode, ...], demands: tuple[Demand, ...], result: Allocated, name: str, level: float) -> float:
    """The sum of what the leaves under `name` take at `level`, each stopping where a node above it is full."""
    parent_of = {node.node_id: node.parent_id for node in nodes}
    total = 0.0
    for demand in demands:
        at, stop, under = demand.leaf_id, level, False
        while at is not None:
            node = result.node(at)
            assert node is not None
            if node.saturated and node.saturation_level is not None:
                stop = min(stop, node.saturation_level)
            under = under or at == name
            at = parent_of[at]
        total += min(stop * demand.weight, demand.requested_kw) if under else 0.0
    return total


def pictures() -> dict[str, str]:
    """File name to SVG."""
    case = read_case(json.loads(SCENARIO.read_text(encoding="utf-8"))["input"])
    assert isinstance(case, Case)
    result = case.allocate()
    assert isinstance(result, Allocated)
    return {"load-balancing-vessels.svg": vessels(result), "load-balancing-levels.svg": rising(case, result)}


if __name__ == "__main__":
    for name, svg in pictures().items():
        (FOLDER / name).write_text(svg, encoding="utf-8")
