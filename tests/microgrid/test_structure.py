"""The structure is the tree from the grid connections down."""

from __future__ import annotations

from microgrid.site_model import ChargePoint, Circuit, Connector, Depot, Microgrid, Node, PowerSource, Site
from microgrid.structure import Structure, build_structure


def structure(circuits: tuple[Circuit, ...], nodes: tuple[Node, ...], **more: tuple[object, ...]) -> Structure:
    microgrid = Microgrid("m", 3, "ACTIVE", nodes, ())
    return build_structure(Site(Depot("d", "Depot", "UTC"), circuits=circuits, microgrid=microgrid, **more), microgrid)  # type: ignore[arg-type]


def test_circuits_stand_under_their_parents_in_order_of_position_then_id() -> None:
    circuits = (
        Circuit("b", "top", "B", 1),
        Circuit("a", "top", "A", 1),
        Circuit("z", "top", "Z", 0),
        Circuit("deep", "a", "Deep", 0),
        Circuit("top", None, "Top", 0),
    )
    found = structure(circuits, (Node("n", "top", "Top", 0),))
    (connection,) = found.grid_connections
    assert connection.circuit is not None
    assert [one.circuit_id for one in connection.circuit.circuits] == ["z", "a", "b"]
    assert [one.circuit_id for one in connection.circuit.circuits[1].circuits] == ["deep"]
    assert (found.version, found.unconnected_circuits) == (3, ())


def test_assets_stand_on_their_circuits_and_the_rest_beside() -> None:
    found = structure(
        (Circuit("top", None, "Top", 0),),
        (Node("n", "top", "Top", 0),),
        charge_points=(ChargePoint("p-2", "top", "2", 50.0), ChargePoint("p-1", "top", "1", 150.0)),
        connectors=(Connector("k-2", "p-1", 2), Connector("k-1", "p-1", 1, 75.0)),
        power_sources=(PowerSource("s-2", "top", "SOLAR", "Roof"), PowerSource("s-1", None, "BATTERY", "Battery")),
    )
    circuit = found.grid_connections[0].circuit
    assert circuit is not None
    assert [one.charge_point_id for one in circuit.charge_points] == ["p-1", "p-2"]
    assert [(one.connector_id, one.max_kw) for one in circuit.charge_points[0].connectors] == [("k-1", 75.0), ("k-2", None)]
    assert [one.power_source_id for one in circuit.power_sources] == ["s-2"]
    assert [one.power_source_id for one in found.power_sources] == ["s-1"]


def test_drift_between_nodes_and_circuits_shows() -> None:
    found = structure((Circuit("new", None, "New", 0),), (Node("n", "gone", "Gone", 0),))
    assert [(one.name, one.circuit) for one in found.grid_connections] == [("Gone", None)]
    assert [one.circuit_id for one in found.unconnected_circuits] == ["new"]


def test_a_ring_of_circuits_is_in_no_tree() -> None:
    found = structure((Circuit("a", "b", "A", 0), Circuit("b", "a", "B", 0)), ())
    assert (found.grid_connections, found.unconnected_circuits) == ((), ())
