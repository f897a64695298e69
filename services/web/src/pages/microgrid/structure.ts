/**
 * A depot's structure as one kind of node, from grid connections down, for a tree and for a diagram alike.
 *
 * The layout is a tidy tree: leaves stand side by side in their order, one column each, and what is above stands in the middle of what is
 * below it. Rows are depths. So nothing overlaps, and the same structure always looks the same.
 */
import type { Read } from "../../api/client.ts";

export type NodeKind = "connection" | "circuit" | "charge_point" | "connector" | "power_source" | "orphans" | "sources";
export type StructureNode = {
  key: string;
  kind: NodeKind;
  id: string | null;
  name: string;
  facts: readonly { fact: "rating" | "safe" | "max" | "rated" | "kind" | "gone"; value: number | string | null }[];
  children: StructureNode[];
};

type Circuit = Read["CircuitBranch"];
type Source = Read["PowerSourceLeaf"];

const source = (of: Source): StructureNode => ({
  key: `source ${of.power_source_id}`,
  kind: "power_source",
  id: of.power_source_id,
  name: of.name,
  facts: [
    { fact: "kind", value: of.kind },
    { fact: "rated", value: of.rated_kw },
  ],
  children: [],
});

function below(of: Circuit): StructureNode[] {
  return [...of.power_sources.map(source), ...of.circuits.map(circuit), ...of.charge_points.map(chargePoint)];
}

const circuit = (of: Circuit): StructureNode => ({
  key: `circuit ${of.circuit_id}`,
  kind: "circuit",
  id: of.circuit_id,
  name: of.name,
  facts: [
    { fact: "rating", value: of.rating_kw },
    { fact: "safe", value: of.safe_capacity_kw },
  ],
  children: below(of),
});

const chargePoint = (of: Read["ChargePointBranch"]): StructureNode => ({
  key: `charge point ${of.charge_point_id}`,
  kind: "charge_point",
  id: of.charge_point_id,
  name: of.name,
  facts: [{ fact: "max", value: of.max_kw }],
  children: of.connectors.map((one) => ({
    key: `connector ${one.connector_id}`,
    kind: "connector",
    id: one.connector_id,
    name: String(one.number),
    facts: [{ fact: "max", value: one.max_kw }],
    children: [],
  })),
});

/** Everything of a structure, as trees. */
export function trees(of: Read["Structure"]): StructureNode[] {
  const connections = of.grid_connections.map((one): StructureNode => ({
    key: `node ${one.node_id}`,
    kind: "connection",
    id: one.source_circuit_id,
    name: one.name,
    facts: one.circuit
      ? [
          { fact: "rating", value: one.circuit.rating_kw },
          { fact: "safe", value: one.circuit.safe_capacity_kw },
        ]
      : [{ fact: "gone", value: null }],
    children: one.circuit ? below(one.circuit) : [],
  }));
  const group = (kind: NodeKind, children: StructureNode[]): StructureNode[] =>
    children.length ? [{ key: kind, kind, id: null, name: "", facts: [], children }] : [];
  return [
    ...connections,
    ...group("orphans", of.unconnected_circuits.map(circuit)),
    ...group("sources", of.power_sources.map(source)),
  ];
}

export type Placed = { node: StructureNode; parent: string | null; column: number; depth: number };

/** Where each node stands, in columns and depths. */
export function placed(roots: readonly StructureNode[]): Placed[] {
  const all: Placed[] = [];
  let nextColumn = 0;
  function place(node: StructureNode, parent: string | null, depth: number): number {
    const own: Placed = { node, parent, column: 0, depth };
    all.push(own);
    const columns = node.children.map((child) => place(child, node.key, depth + 1));
    own.column = columns.length ? ((columns[0] as number) + (columns.at(-1) as number)) / 2 : nextColumn++;
    return own.column;
  }
  for (const root of roots) place(root, null, 0);
  return all;
}
