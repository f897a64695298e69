/**
 * No state on a page contradicts the API: what is shown is compared with what is told, for each capability, freshness, status and scope,
 * for what was never reported, is no longer bound or has no microgrid; on the card, the list of depots, controllers and devices.
 */
import assert from "node:assert/strict";
import { before, test } from "node:test";
import { eventually, useChromium } from "./chromium.mjs";
import { api, Depot, importWithoutMicrogrid, publishRaw } from "./depot.mjs";
import { asAdmin, controllersSite } from "./journey.mjs";

const open = useChromium();
const CAPABILITIES = ["PEAK_SHAVING", "DER"];
const STATES = ["FRESH ON", "FRESH OFF", "STALE ON", "STALE OFF", "NEVER_REPORTED"];
const HOUR_MS = 3_600_000;
const FRESHNESS = { FRESH: "Fresh", STALE: "Stale", NEVER_REPORTED: "Never reported" };
const BOTH = { PEAK_SHAVING: "PEAK_SHAVING", DER: "DER" };
const idOf = (number) => `journey-shown-${number}`;

async function report(depot, device, node_id, capability, state) {
  const [freshness, status] = state.split(" ");
  if (freshness === "NEVER_REPORTED") return;
  const observed_at = new Date(Date.now() - (freshness === "STALE" ? HOUR_MS : 0)).toISOString();
  const body = { capability, value: status === "ON", observed_at, source_event_ref: state, device_id: depot.thing(device), ...(node_id ? { node_id } : {}) };
  await api("POST", `/api/depot/${depot.id}/microgrid/capability-status`, body);
}

const bind = (depot, device, node_id, capabilities) =>
  api("POST", `/api/depot/${depot.id}/controller-binding`, {
    device_id: depot.thing(device),
    node_id,
    capabilities: capabilities.map((capability) => ({ capability, measurand: capability })),
  });

/** A depot whose whole site and both grid connections are each in another state, and the next depot's in the ones after. */
async function mixed(number) {
  const depot = await Depot.set(idOf(number), { site: controllersSite(idOf(number), [["ctrl-1", BOTH]]) });
  const { nodes } = await api("GET", `/api/depot/${depot.id}/microgrid`);
  const scopes = [["ctrl-1", null], ["ctrl-2", nodes[0].node_id], ["ctrl-3", nodes[1].node_id]];
  for (const [place, [device, node_id]] of scopes.entries()) {
    if (node_id) await bind(depot, device, node_id, CAPABILITIES);
    for (const [which, capability] of CAPABILITIES.entries()) await report(depot, device, node_id, capability, STATES[(number + place + 2 * which) % STATES.length]);
  }
  return depot;
}

/** Peak shaving of one grid connection, and nothing about the whole site. */
async function ofOnePart() {
  const depot = await Depot.set("journey-shown-part", { site: controllersSite("journey-shown-part", []) });
  const { nodes } = await api("GET", `/api/depot/${depot.id}/microgrid`);
  await bind(depot, "ctrl-1", nodes[1].node_id, ["PEAK_SHAVING"]);
  await report(depot, "ctrl-1", nodes[1].node_id, "PEAK_SHAVING", "FRESH ON");
  return depot;
}

/** Reported while it was bound, and bound no more. */
async function unbound() {
  const depot = await Depot.set("journey-shown-unbound", { site: controllersSite("journey-shown-unbound", [["ctrl-1", BOTH]]) });
  await report(depot, "ctrl-1", null, "DER", "FRESH OFF");
  for (const one of (await api("GET", `/api/depot/${depot.id}/controller-binding`)).items) await api("DELETE", `/api/controller-binding/${one.controller_binding_id}`);
  return depot;
}

let depots;
before(async () => {
  await importWithoutMicrogrid("journey-shown-bare", process.env.PROFILE);
  depots = await Promise.all([
    ...STATES.map((_, number) => mixed(number)),
    ofOnePart(),
    unbound(),
    Depot.set("journey-shown-idle", { site: controllersSite("journey-shown-idle", []) }),
  ]);
});

const shownCard = (page) =>
  page.locator("[data-capability]").evaluateAll((all) =>
    all.map((one) => ({
      capability: one.dataset.capability,
      scope: one.dataset.scope,
      named: one.querySelector("h3 + span")?.textContent.replace("Scope: ", "") ?? "",
      status: one.querySelector("[data-status]").textContent,
      source: one.querySelector("[data-source]").textContent.trim(),
      freshness: one.querySelector("[data-freshness]").textContent,
      struck: one.querySelector(".status").classList.contains("old"),
      aged: one.querySelector("[data-age]") !== null,
      event: one.querySelector("details dl")?.lastElementChild.textContent ?? null,
    })),
  );

const toldCard = (card) =>
  card.capabilities.map((one) => ({
    capability: one.capability,
    scope: one.scope.node_id ?? "",
    named: one.scope.node_id === null ? "" : one.scope.name,
    status: one.operational_status ?? "No status yet",
    source: one.source?.device_id ?? "no device yet",
    freshness: FRESHNESS[one.freshness],
    struck: one.freshness === "STALE",
    aged: one.age_s !== null,
    event: one.event_id,
  }));

test("the card shows every capability, scope, status and freshness as they are told", async (t) => {
  const seen = new Set();
  const page = await open(t, "/", { prepare: asAdmin });
  for (const depot of depots) {
    await page.getByLabel("Search by name or id").fill(depot.id);
    await page.getByRole("link", { name: `Depot ${depot.id}`, exact: true }).click();
    const told = toldCard(await depot.card());
    await page.locator("[data-card]").waitFor();
    await eventually(() => shownCard(page), told, depot.id);
    for (const one of told) seen.add(`${one.capability} ${one.scope ? "part" : "site"} ${one.freshness} ${one.status}`);
    if (!told.length) await page.getByText("No capability is bound or was ever reported").waitFor();
    await page.getByRole("navigation", { name: "Main" }).getByRole("link", { name: "Depots" }).click();
  }
  const all = CAPABILITIES.flatMap((one) => ["site", "part"].flatMap((scope) => ["Fresh ON", "Fresh OFF", "Stale ON", "Stale OFF", "Never reported No status yet"].map((state) => `${one} ${scope} ${state}`)));
  assert.deepEqual(all.filter((one) => !seen.has(one)), [], "each of them was there to be seen");
});

/** What the row of a depot has to say, column by column. */
function toldRow({ depot_id, name, microgrid_id, summary }) {
  const of = (capability) => {
    const [first, ...others] = summary.capabilities.filter((one) => one.capability === capability);
    if (!first) return "not bound";
    const scope = first.scope.node_id === null ? "" : first.scope.name;
    return `${first.operational_status ?? "No status yet"}${scope}${others.length ? `+${others.length} scope${others.length > 1 ? "s" : ""}` : ""}`;
  };
  const freshness = summary.capabilities.length ? FRESHNESS[summary.freshness] : "not bound";
  const status = microgrid_id === null ? ["No microgrid"] : [...CAPABILITIES.map(of), freshness];
  return [`${name}${depot_id}`, ...status, "Nothing open"];
}

test("the list of depots shows each as it is told", async (t) => {
  const page = await open(t, "/", { prepare: asAdmin });
  await page.getByLabel("Search by name or id").fill("journey-shown-");
  const { items } = await api("GET", "/api/depot?include=summary&limit=500");
  const told = items.filter((one) => one.depot_id.startsWith("journey-shown-"));
  assert.equal(told.length, depots.length + 1, "the one without a microgrid, too");
  const shown = () =>
    page.locator("li.depot-row").evaluateAll((all) => all.map((row) => [...row.children].map((one) => [...one.childNodes].filter((part) => !part.classList?.contains("depot-label")).map((part) => part.textContent).join("").trim())));
  await eventually(shown, told.map(toldRow));
});

test("the controllers are shown as they are told, scope by scope", async (t) => {
  const [depot] = depots;
  const page = await open(t, `/depot/${depot.id}/controllers`, { prepare: asAdmin });
  const { nodes } = await api("GET", `/api/depot/${depot.id}/microgrid`);
  const words = { PEAK_SHAVING: "Peak shaving", DER: "DER" };
  const { items } = await api("GET", `/api/depot/${depot.id}/controller-binding`);
  const told = items.map((one) => [
    one.device_id,
    nodes.find((node) => node.node_id === one.node_id)?.name ?? "Whole site",
    one.enabled ? "Enabled" : "Disabled",
    String(one.version),
    one.capabilities.map((bound) => [words[bound.capability], bound.measurand, FRESHNESS[bound.freshness], bound.last_reported_at]),
  ]);
  assert.equal(told.length, 3);
  const shown = () =>
    page.locator("[data-binding]").evaluateAll((all) =>
      all.map((one) => [
        one.dataset.binding,
        one.querySelector("dl dd").textContent,
        one.querySelector(".row .mark").textContent,
        one.querySelector("[data-binding-version]").textContent,
        [...one.querySelectorAll("tbody tr")].map((row) => [...[...row.cells].slice(0, 3).map((cell) => cell.textContent), row.querySelector("time")?.dateTime ?? null]),
      ]),
    );
  await eventually(shown, told);
});

test("devices are shown as they are configured, and what each measured as old as it is", async (t) => {
  const id = "journey-devices";
  const depot = await Depot.set(id, { site: controllersSite(id, [["ctrl-1", BOTH]]) });
  await api("PATCH", `/api/device/${depot.thing("ctrl-3")}`, { enabled: false });
  await depot.untilKnown();
  depot.publish("meter", { IMPORT_ENERGY: 50 });
  const late = { packet_id: "late", gateway_id: depot.thing("gw"), device_id: depot.thing("meter"), sent_at: new Date(Date.now() - HOUR_MS) };
  publishRaw(`iot/v1/${late.gateway_id}/${late.device_id}/packet`, JSON.stringify({ schema_version: "1.0", ...late, measurands: [{ key: "SOC", value: 41.5 }] }));
  const measurements = async () => (await api("GET", `/api/device/${depot.thing("meter")}/measurement`)).items;
  await eventually(async () => (await measurements()).map((one) => [one.measurand, one.freshness]), [["IMPORT_ENERGY", "FRESH"], ["SOC", "STALE"]]);
  const page = await open(t, `/depot/${id}/devices`, { prepare: asAdmin });
  const devices = (await api("GET", `/api/device?depot_id=${id}`)).items;
  const actions = (await api("GET", `/api/sensor_action?depot_id=${id}&limit=500`)).items;
  const rows = (table) => table.evaluateAll((all) => all.map((row) => [...row.cells].map((cell) => cell.textContent.trim())));
  const told = devices.map((one) => [
    one.device_id,
    one.profile ?? "no profile",
    one.circuit_id ?? "none",
    String(actions.filter((action) => action.device_id === one.device_id).length),
    one.enabled ? "Enabled" : "Disabled",
  ]);
  assert.equal(told.filter((one) => one[4] === "Disabled").length, 1);
  await eventually(() => rows(page.locator("tbody tr")), told);

  await page.getByRole("link", { name: depot.thing("meter") }).click();
  const measured = await measurements();
  const shown = () => page.locator("[data-measurand]").evaluateAll((all) => all.map((row) => [row.dataset.measurand, Number.parseFloat(row.cells[1].textContent.replace("−", "-")), row.querySelector("[data-freshness]").textContent]));
  await eventually(shown, measured.map((one) => [one.measurand, one.value, FRESHNESS[one.freshness]]));
  const ofMeter = actions.filter((one) => one.device_id === depot.thing("meter"));
  const does = async () => (await rows(page.locator("[aria-labelledby=actions] tbody tr"))).map((one) => [one[0], one[1], one[4]]);
  await eventually(does, ofMeter.map((one) => [one.measurand, one.action, one.enabled ? "Enabled" : "Disabled"]));
  const [one] = ofMeter;
  await api("PATCH", `/api/sensor_action/${one.sensor_action_id}`, { enabled: !one.enabled });
  await eventually(async () => (await does()).find((row) => row[0] === one.measurand && row[1] === one.action)[2], one.enabled ? "Disabled" : "Enabled", "a change elsewhere arrives");
});

test("a status turns stale at its second also while the page hears nothing", async (t) => {
  const depot = await Depot.set("journey-unheard", { staleAfterS: 5 });
  const page = await open(t, `/depot/${depot.id}`, { prepare: asAdmin });
  await page.locator('[data-connection="live"]').waitFor();
  await report(depot, "ctrl-1", null, "PEAK_SHAVING", "FRESH ON");
  const capability = page.locator('[data-capability="PEAK_SHAVING"]');
  await eventually(() => capability.locator("[data-status]").textContent(), "ON");
  await page.context().setOffline(true);
  const [told] = (await depot.card()).capabilities;
  await eventually(() => capability.getAttribute("data-freshness-now"), "STALE");
  const at = await page.evaluate(() => Date.now());
  assert.ok(at >= Date.parse(told.stale_at) - 50, `stale at ${new Date(at).toISOString()}, before ${told.stale_at}`);
  assert.deepEqual((await shownCard(page))[0].status, "ON", "the last value stays");
});
