import assert from "node:assert/strict";
import { test } from "node:test";
import { type Binding, changeOf, creationOf, type Draft, draftOf, EMPTY, fieldsOf, ownerOf } from "./binding.ts";

const binding = (over: Partial<Binding> = {}): Binding => ({
  controller_binding_id: "b-1",
  depot_id: "d",
  microgrid_id: "m",
  device_id: "ctrl-1",
  node_id: null,
  enabled: true,
  stale_after_s: 120,
  supported_capabilities: ["PEAK_SHAVING", "DER"],
  capabilities: [{ capability: "DER", measurand: "DER", control_point_id: "p", last_reported_at: null, freshness: "NEVER_REPORTED" }],
  version: 3,
  ...over,
});

test("what nobody touched is no change", () => assert.deepEqual(changeOf(draftOf(binding()), binding()), {}));

test("only what differs is sent", () => {
  const draft: Draft = { ...draftOf(binding()), stale_after_s: "60" };
  assert.deepEqual(changeOf(draft, binding()), { stale_after_s: 60 });
});

test("capabilities are sent all together, and without those that have no measurand", () => {
  const draft: Draft = { ...draftOf(binding()), measurands: { PEAK_SHAVING: " PS ", DER: "" } };
  assert.deepEqual(changeOf(draft, binding()), { capabilities: [{ capability: "PEAK_SHAVING", measurand: "PS" }] });
});

test("what is no number goes to the server as it was typed", () => {
  assert.equal(creationOf({ ...EMPTY, stale_after_s: "soon" }).stale_after_s, "soon");
  assert.equal(creationOf({ ...EMPTY, stale_after_s: "" }).stale_after_s, "");
});

test("the whole site is said by saying nothing", () => {
  assert.equal("node_id" in creationOf(EMPTY), false);
  assert.equal(creationOf({ ...EMPTY, node_id: "n" }).node_id, "n");
});

test("a fault's pointer follows the place that a capability was sent at", () => {
  const fields = fieldsOf({ ...EMPTY, measurands: { PEAK_SHAVING: "", DER: "DER" } });
  assert.equal(fields["/capabilities/0"], "DER");
});

test("an owner is enabled, of the same scope, and has one of the capabilities", () => {
  const incoming = binding({ controller_binding_id: "b-2", device_id: "ctrl-2", enabled: false });
  assert.equal(ownerOf([binding(), incoming], incoming)?.device_id, "ctrl-1");
  assert.equal(ownerOf([binding({ enabled: false }), incoming], incoming), null);
  assert.equal(ownerOf([binding({ node_id: "n" }), incoming], incoming), null);
  assert.equal(ownerOf([binding({ capabilities: [] }), incoming], incoming), null);
});
