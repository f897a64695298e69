import assert from "node:assert/strict";
import { test } from "node:test";
import { placed, type StructureNode, trees } from "./structure.ts";

const node = (key: string, ...children: StructureNode[]): StructureNode => ({ key, kind: "circuit", id: key, name: key, facts: [], children });

test("leaves stand side by side and what is above stands over their middle", () => {
  const at = Object.fromEntries(placed([node("a", node("b"), node("c", node("d"), node("e"))), node("f")]).map((one) => [one.node.key, [one.column, one.depth]]));
  assert.deepEqual(at, { a: [0.75, 0], b: [0, 1], c: [1.5, 1], d: [1, 2], e: [2, 2], f: [3, 0] });
});

test("no two nodes of one depth stand in the same place, however deep and wide", () => {
  const grow = (key: string, depth: number): StructureNode =>
    node(key, ...(depth ? Array.from({ length: (key.length % 3) + 1 }, (_, i) => grow(`${key}${i}`, depth - 1)) : []));
  const all = placed([grow("x", 5), grow("yy", 4)]).map((one) => `${one.depth} ${one.column}`);
  assert.equal(new Set(all).size, all.length);
});

test("circuits under no connection and sources on no circuit are shown apart, and a connection without its circuit stays", () => {
  const circuit = { circuit_id: "k", name: "K", position: 0, default_capacity_kw: null, safe_capacity_kw: null, rating_kw: 10, circuits: [], charge_points: [], power_sources: [] };
  const found = trees({
    microgrid_id: "m",
    depot_id: "d",
    depot_name: "D",
    version: 1,
    status: "ACTIVE",
    grid_connections: [{ node_id: "n", kind: "GRID_CONNECTION", name: "Gone", position: 0, source_circuit_id: "x", circuit: null }],
    unconnected_circuits: [circuit],
    power_sources: [{ power_source_id: "p", kind: "SOLAR", name: "P", rated_kw: null }],
  });
  assert.deepEqual(found.map((one) => [one.kind, one.children.map((child) => child.id)]), [
    ["connection", []],
    ["orphans", ["k"]],
    ["sources", ["p"]],
  ]);
});
