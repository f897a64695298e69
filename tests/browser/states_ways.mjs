/**
 * Ways to bring a page into a state and hold it there: a role that may not, a depot that lacks something, a service that is away. What
 * can be had for real is had for real; a request is caught only where the real thing would not hold still.
 */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { eventually } from "./chromium.mjs";
import { api, command, Depot, publishRaw, siteOf } from "./depot.mjs";

const HOUR_MS = 3_600_000;
const NOTHING_OF_SITE = { charge_points: [], connectors: [], power_sources: [], gateways: [], devices: [], controller_bindings: [] };

const once = (made) => {
  const known = new Map();
  return (name) => {
    if (!known.has(name)) known.set(name, made(name));
    return known.get(name);
  };
};

const tokenOf = once((role) => {
  if (role === "stranger") return command("token", "--role", "viewer", "--depot", "state-of-nobody");
  return command("token", "--role", role, ...(role === "device" ? ["--gateway", "state-gateway"] : []));
});

/** Sign a page in before it loads. `stranger` is a viewer of no depot that exists. */
export async function signedIn(page, role) {
  const kept = JSON.stringify({ token: await tokenOf(role), until: Date.now() + HOUR_MS });
  await page.addInitScript((value) => sessionStorage.setItem("depotgrid-token", value), kept);
}

const MADE = {
  /** Everything is set, reports have come, and some of them were refused or found no target. */
  async full(id) {
    const battery = (name, circuit) => ({ power_source_id: `${id}-${name}`, circuit_id: `${id}-${circuit}`, kind: "BATTERY", name, rated_kw: 250 });
    const power_sources = [battery("bess", "gc-1"), battery("bess-2", "gc-2"), battery("bess-3", "gc-2")];
    const depot = await Depot.set(id, { staleAfterS: 86_400, site: { power_sources } });
    depot.publish("ctrl-1", { HEARTBEAT_STATUS: true, AVAILABLE_CHARGING_CAPACITY: 612.5, PEAK_SHAVING: true, DER: false });
    depot.publish("meter", { ACTIVE_POWER: -120.25, SOC: 74.51, DEVICE_POWER_STATE: "ON" });
    depot.publish("lost", { ACTIVE_POWER: 10 });
    depot.publish("ctrl-1", { SOC: 130.5 });
    publishRaw(`iot/v1/${depot.thing("gw")}/${depot.thing("ctrl-1")}/packet`, '{"broken": ');
    const counts = async () => {
      const card = await depot.card();
      return [card.capabilities[0].operational_status, card.power_sources[0].load_kw, card.remediation_count, card.dead_letter_count];
    };
    await eventually(counts, ["ON", -120.25, 1, 3], "what was published has arrived");
    return depot;
  },
  /** What came is older than it may be. */
  async stale(id) {
    const depot = await Depot.set(id, { staleAfterS: 1 });
    depot.publish("ctrl-1", { PEAK_SHAVING: true, DER: false });
    await eventually(async () => (await depot.card()).capabilities.map((one) => one.freshness), ["STALE", "STALE"]);
    return depot;
  },
  /** A controller is bound, and nothing ever came. */
  never: (id) => Depot.set(id),
  /** Circuits, and no microgrid. */
  async bare(id) {
    const file = path.join(process.env.PROFILE, `${id}.json`);
    writeFileSync(file, JSON.stringify({ ...siteOf(id), controller_bindings: [] }));
    await command("site", "import", file, "--no-provision");
    return new Depot(id, null);
  },
  /** One grid connection and nothing else. */
  nothing: (id) => Depot.set(id, { site: { ...NOTHING_OF_SITE, circuits: [{ circuit_id: `${id}-gc-1`, name: "Grid connection North", position: 0 }] } }),
  /** A microgrid whose grid connections are all gone. */
  async emptied(id) {
    const depot = await MADE.nothing(id);
    await api("DELETE", `/api/circuit/${depot.thing("gc-1")}`);
    return depot;
  },
  /** One capability is bound to one grid connection, beside those of the whole site. */
  async subtree(id) {
    const depot = await Depot.set(id);
    const { nodes } = await api("GET", `/api/depot/${id}/microgrid`);
    const south = nodes.find((one) => one.name === "Grid connection South");
    const binding = { device_id: depot.thing("ctrl-2"), node_id: south.node_id, capabilities: [{ capability: "PEAK_SHAVING", measurand: "PS_RUNS" }] };
    await api("POST", `/api/depot/${id}/controller-binding`, binding);
    return depot;
  },
  /** The feature flag is off for a depot of this id. */
  "flag-off": () => Depot.set("web-flag-off"),
  /** A depot to be changed by two people at once. */
  raced: (id) => Depot.set(id, { staleAfterS: 120 }),
  overtaken: (id) => Depot.set(id, { staleAfterS: 120 }),
};

/** The depot of a kind, made when it is first wanted. */
export const depotOf = once((kind) => MADE[kind](`state-${kind}`));

/** Requests that never come back. */
export const held = (what) => (page) => page.route(what, () => {});

/** Requests whose connection breaks. */
export const broken = (what) => (page) => page.route(what, (route) => route.abort());

/** Requests that are refused. */
export const refused = (what, status, code, detail) => (page) =>
  page.route(what, (route) =>
    route.fulfill({ status, contentType: "application/problem+json", json: { type: "about:blank", title: code, status, detail, instance: "/", code } }),
  );

/** Requests to which the service answers that it has a fault. */
export const failing = (what) => refused(what, 500, "INTERNAL_ERROR", "The answer could not be made.");

/** Requests to which an older service answers that it knows no such thing. */
export const unknown = (what) => refused(what, 404, "NOT_FOUND", "There is nothing at this address.");

/** What this page asks from now on gets nowhere, as in a yard without a signal. */
export async function cutOff(page) {
  const session = await page.context().newCDPSession(page);
  await session.send("Network.enable");
  await session.send("Network.emulateNetworkConditions", { offline: true, latency: 0, downloadThroughput: -1, uploadThroughput: -1 });
}

/** As somebody else changes a binding meanwhile. */
export async function changedElsewhere(depot, change) {
  const { items } = await api("GET", `/api/depot/${depot.id}/controller-binding`);
  const seen = items.find((one) => one.device_id === depot.thing("ctrl-1"));
  assert.ok(seen, "there is a binding to change");
  await api("PATCH", `/api/controller-binding/${seen.controller_binding_id}`, change, { "If-Match": `"${seen.version}"` });
}
