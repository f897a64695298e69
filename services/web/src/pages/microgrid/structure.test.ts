import assert from "node:assert/strict";
import { test } from "node:test";
import { placed, type StructureNode, trees } from "./structure.ts";

const node = (key: string, kind: StructureNode["kind"], ...children: StructureNode[]): StructureNode => ({ key, kind, id: key, name: key, facts: [], children });
const circuit = (key: string, ...children: StructureNode[]) => node(key, "circuit", ...children);

test("circuits stand side by side, each in the middle over what is below it", () => {
  const at = Object.fromEntries(placed([circuit("a", circuit("b"), circuit("c", circuit("d"), circuit("e"))), circuit("f")]).map((one) => [one.node.key, [one.column, one.depth]]));
  assert.deepEqual(at, { a: [0.75, 0], b: [0, 1], c: [1.5, 1], d: [1, 2], e: [2, 2], f: [3, 0] });
});

test("what ends at a circuit is stacked under it, connectors right below their charge point", () => {
  const bay = (key: string) => node(key, "charge_point", node(`${key}-1`, "connector"), node(`${key}-2`, "connector"));
  const at = placed([circuit("a", node("s", "power_source"), bay("x"), bay("y"), circuit("b"))]).map((one) => [one.node.key, one.column, one.row, one.indent]);
  assert.deepEqual(at, [
    ["a", 0.5, 0, 0],
    ["s", 0, 0, 0],
    ["x", 0, 1, 0],
    ["x-1", 0, 2, 1],
    ["x-2", 0, 3, 1],
    ["y", 0, 4, 0],
    ["y-1", 0, 5, 1],
    ["y-2", 0, 6, 1],
    ["b", 1, 0, 0],
  ]);
});

test("no two nodes stand in the same place, however deep and wide", () => {
  const grow = (key: string, depth: number): StructureNode =>
    depth
      ? circuit(key, node(`${key}s`, "power_source"), ...Array.from({ length: (key.length % 3) + 1 }, (_, i) => grow(`${key}${i}`, depth - 1)))
      : node(key, "charge_point", node(`${key}c`, "connector"));
  const all = placed([grow("x", 5), grow("yy", 4)]).map((one) => `${one.depth} ${one.row} ${one.column}`);
  assert.equal(new Set(all).size, all.length);
});

test("circuits under no connection and sources on no circuit are shown apart, and a connection without its circuit stays", () => {
  const bare = { circuit_id: "k", name: "K", position: 0, default_capacity_kw: null, safe_capacity_kw: null, rating_kw: 10, circuits: [], charge_points: [], power_sources: [] };
  const found = trees({
    microgrid_id: "m",
    depot_id: "d",
    depot_name: "D",
    version: 1,
    status: "ACTIVE",
    grid_connections: [{ node_id: "n", kind: "GRID_CONNECTION", name: "Gone", position: 0, source_circuit_id: "x", circuit: null }],
    unconnected_circuits: [bare],
    power_sources: [{ power_source_id: "p", kind: "SOLAR", name: "P", rated_kw: null }],
  });
  assert.deepEqual(found.map((one) => [one.kind, one.children.map((child) => child.id)]), [
    ["connection", []],
    ["orphans", ["k"]],
    ["sources", ["p"]],
  ]);
});
