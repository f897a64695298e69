/**
 * A depot's structure as one kind of node, from grid connections down, for a tree and for a diagram alike.
 *
 * The layout: grid connections and circuits stand side by side, each in the middle over what is below it, a depth lower each. What ends
 * there (power sources, charge points with their connectors) is stacked in one column under its circuit, before the circuits below that,
 * and indented by level. So nothing overlaps, a site of many bays stays narrow, and the same structure always looks the same.
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

export type Placed = { node: StructureNode; parent: string | null; column: number; depth: number; row: number; indent: number };

const isBranch = (node: StructureNode) => node.kind !== "charge_point" && node.kind !== "connector" && node.kind !== "power_source";

/** Where each node stands. */
export function placed(roots: readonly StructureNode[]): Placed[] {
  const all: Placed[] = [];
  let nextColumn = 0;

  function stack(node: StructureNode, parent: string, at: Omit<Placed, "node" | "parent">): number {
    all.push({ node, parent, ...at });
    return node.children.reduce((row, child) => stack(child, node.key, { ...at, row, indent: at.indent + 1 }), at.row + 1);
  }

  function branch(node: StructureNode, parent: string | null, depth: number): number {
    const own: Placed = { node, parent, column: 0, depth, row: 0, indent: 0 };
    all.push(own);
    const columns: number[] = [];
    const stacked = node.children.filter((one) => !isBranch(one));
    const branches = node.children.filter(isBranch);
    if (stacked.length || !branches.length) columns.push(nextColumn++);
    stacked.reduce((row, one) => stack(one, node.key, { column: columns[0] as number, depth: depth + 1, row, indent: 0 }), 0);
    columns.push(...branches.map((one) => branch(one, node.key, depth + 1)));
    own.column = ((columns[0] as number) + (columns.at(-1) as number)) / 2;
    return own.column;
  }

  for (const root of roots) branch(root, null, 0);
  return all;
}
