import assert from "node:assert/strict";
import { test } from "node:test";
import { assertAccessible, assertFits, eventually, useChromium, watchFor } from "./chromium.mjs";
import { Depot, killService } from "./depot.mjs";

const open = useChromium();
const capability = (page, name) => page.locator(`[data-capability="${name}"]`);
const statusOf = (page, name) => capability(page, name).locator("[data-status]").textContent();
const connectionOf = (page) => page.locator("[data-connection]").getAttribute("data-connection");
const isLive = (page) => eventually(() => connectionOf(page), "live");

/** Everything of the card that the page shows, as numbers and codes. */
async function shownCard(page) {
  const number = async (locator, name) => {
    const value = await locator.getAttribute(name);
    return value === "" || value === null ? null : Number(value);
  };
  const capabilities = [];
  for (const one of await page.locator("[data-capability]").all()) {
    const source = (await one.locator("[data-source]").textContent()).trim();
    capabilities.push([await one.getAttribute("data-capability"), await one.locator("[data-status]").textContent(), source, await one.getAttribute("data-freshness-now")]);
  }
  const sources = [];
  for (const one of await page.locator("[data-source-id]").all()) {
    sources.push([
      await one.getAttribute("data-source-id"),
      await number(one.locator("[data-load]"), "data-load"),
      await number(one.locator("[data-soc]"), "data-soc"),
      (await one.locator("[data-state]").getAttribute("data-state")) || null,
      (await one.locator("[data-freshness]").getAttribute("data-freshness")) || null,
    ]);
  }
  const circuits = [];
  for (const one of await page.locator("[data-circuit]").all()) {
    circuits.push([
      await one.getAttribute("data-circuit"),
      await number(one.locator("[data-available]"), "data-available"),
      await one.locator("[data-capacity-source]").getAttribute("data-capacity-source"),
      await one.locator("[data-heartbeat]").getAttribute("data-heartbeat"),
    ]);
  }
  return { capabilities, sources, circuits };
}

const toldCard = (card) => ({
  capabilities: card.capabilities.map((one) => [
    one.capability,
    one.operational_status ?? "No status yet",
    one.source?.device_id ?? "no device yet",
    one.freshness,
  ]),
  sources: card.power_sources.map((one) => [one.power_source_id, one.load_kw, one.soc_pct, one.state, one.freshness]),
  circuits: card.circuits.map((one) => [one.circuit_id, one.available_capacity_kw, one.source, one.heartbeat]),
});

test("the page shows exactly what the card says, before and after the first reports", async (t) => {
  const depot = await Depot.set("web-exact");
  const page = await open(t, `/depot/${depot.id}`);
  await isLive(page);
  const before = toldCard(await depot.card());
  assert.equal(before.capabilities[0][3], "NEVER_REPORTED");
  await eventually(() => shownCard(page), before);
  await assertAccessible(page);

  depot.publish("ctrl-1", { HEARTBEAT_STATUS: true, AVAILABLE_CHARGING_CAPACITY: 612.345678, PEAK_SHAVING: true, DER: false });
  depot.publish("meter", { ACTIVE_POWER: -120.25, SOC: 74.51, DEVICE_POWER_STATE: "ON" });
  await eventually(async () => toldCard(await depot.card()).sources[0].slice(1, 4), [-120.25, 74.51, "ON"]);
  const after = toldCard(await depot.card());
  assert.equal(after.circuits[0][1], 500, "cut to the rating");
  await eventually(() => shownCard(page), after);
  assert.match(await page.locator('[data-source-id$="bess"]').textContent(), /−120\.25 kW.*discharges.*74\.51 %/);
  assert.match(await page.locator("[data-circuit]").first().textContent(), /500 kW.*cut from 612\.346 kW/);
  assert.equal(await page.evaluate(() => performance.getEntriesByName("depotgrid:card-filled").length), 1);
  await page.locator(".chart canvas").waitFor();
  await assertAccessible(page);
});

test("an update arrives after its packet without loading the page again, and is announced", async (t) => {
  const depot = await Depot.set("web-update");
  depot.publish("ctrl-1", { PEAK_SHAVING: true, DER: false });
  const page = await open(t, `/depot/${depot.id}`);
  await isLive(page);
  await eventually(() => statusOf(page, "PEAK_SHAVING"), "ON");
  await page.evaluate(() => {
    window.notLoadedAgain = true;
  });
  depot.publish("ctrl-1", { PEAK_SHAVING: false });
  await eventually(() => statusOf(page, "PEAK_SHAVING"), "OFF");
  assert.equal(await page.evaluate(() => window.notLoadedAgain), true);
  await page.getByText("Peak shaving is now OFF").waitFor({ state: "attached" });
});

test("a status turns stale by itself, not before its time, and keeps its last value", async (t) => {
  const depot = await Depot.set("web-stale", { staleAfterS: 4 });
  const page = await open(t, `/depot/${depot.id}`);
  await isLive(page);
  depot.publish("ctrl-1", { PEAK_SHAVING: true });
  await eventually(() => statusOf(page, "PEAK_SHAVING"), "ON");
  const [told] = (await depot.card()).capabilities;
  const turned = () => capability(page, "PEAK_SHAVING").getAttribute("data-freshness-now");
  await eventually(turned, "STALE");
  const at = await page.evaluate(() => Date.now());
  assert.ok(at >= Date.parse(told.stale_at) - 50, `stale at ${new Date(at).toISOString()}, before ${told.stale_at}`);
  assert.equal(await statusOf(page, "PEAK_SHAVING"), "ON");
  assert.match(await capability(page, "PEAK_SHAVING").textContent(), /Stale.*\d s old/);
  // What is told anew is fresh for 4 s: on a busy machine one packet alone may be shown too late for that.
  await eventually(async () => {
    depot.publish("ctrl-1", { PEAK_SHAVING: true });
    return turned();
  }, "FRESH");
});

test("a lost connection is said, ages go on, and what was missed is there when it is back", async (t) => {
  const depot = await Depot.set("web-lost");
  const page = await open(t, `/depot/${depot.id}`);
  await isLive(page);
  // What comes after the first card comes with an id to go on from.
  depot.publish("ctrl-1", { PEAK_SHAVING: true });
  await eventually(() => statusOf(page, "PEAK_SHAVING"), "ON");
  const resumed = [];
  page.on("request", (request) => {
    if (request.url().endsWith("/stream")) resumed.push(request.headers()["last-event-id"]);
  });
  await page.context().setOffline(true);
  await page.locator('[data-banner="lost"]').getByText("What you see is old").waitFor();
  const age = () => capability(page, "PEAK_SHAVING").locator("[data-age]").textContent();
  const first = await age();
  await eventually(async () => (await age()) !== first, true);
  depot.publish("ctrl-1", { PEAK_SHAVING: false });
  const back = await watchFor(page, '[data-banner="back"]');
  await page.context().setOffline(false);
  await back();
  await eventually(() => statusOf(page, "PEAK_SHAVING"), "OFF");
  await isLive(page);
  assert.match(resumed.at(-1), /^\d+-\d+$/, "it went on after the last event that it knew");
  const blinked = await watchFor(page, '[data-connection="lost"]');
  await page.context().setOffline(true);
  await blinked();
  await page.context().setOffline(false);
  await isLive(page);
  await page.locator('[data-banner="back"]').waitFor({ state: "detached" });
});

test("the page survives the death of the read API", async (t) => {
  const depot = await Depot.set("web-restart");
  depot.publish("ctrl-1", { DER: false });
  const page = await open(t, `/depot/${depot.id}`);
  await isLive(page);
  await eventually(() => statusOf(page, "DER"), "OFF");
  const lost = await watchFor(page, '[data-connection="lost"]');
  killService("read_api");
  await lost();
  depot.publish("ctrl-1", { DER: true });
  await isLive(page);
  await eventually(() => statusOf(page, "DER"), "ON");
});

test("where the flag is off, capabilities are not shown and the rest is", async (t) => {
  const depot = await Depot.set("web-flag-off");
  const page = await open(t, `/depot/${depot.id}`);
  await page.getByRole("heading", { name: "Power sources" }).waitFor();
  assert.equal(await page.locator("[data-card]").count(), 0);
});

test("a depot that is not there is told as what it is", async (t) => {
  const page = await open(t, "/depot/web-nowhere");
  await page.getByText("There is no such thing, or it is not yours to see").waitFor();
  await assertAccessible(page);
});

for (const [width, scheme] of [
  [360, "dark"],
  [2560, "light"],
]) {
  test(`everything is there at ${width} px in ${scheme} colours`, async (t) => {
    const depot = await Depot.set("web-sizes");
    depot.publish("ctrl-1", { HEARTBEAT_STATUS: true, AVAILABLE_CHARGING_CAPACITY: 300, PEAK_SHAVING: true, DER: true });
    const page = await open(t, `/depot/${depot.id}`, { width, scheme, height: width < 500 ? 780 : 1300 });
    await eventually(() => statusOf(page, "PEAK_SHAVING"), "ON");
    await page.locator("[data-circuit]").first().scrollIntoViewIfNeeded();
    await assertFits(page);
    await assertAccessible(page);
  });
}

test("everything can be reached by keyboard, and where one is can be seen", async (t) => {
  const depot = await Depot.set("web-keys");
  depot.publish("ctrl-1", { PEAK_SHAVING: true });
  const page = await open(t, `/depot/${depot.id}`);
  await eventually(() => statusOf(page, "PEAK_SHAVING"), "ON");
  const reached = new Set();
  for (let press = 0; press < 40; press++) {
    await page.keyboard.press("Tab");
    const [name, outline] = await page.evaluate(() => {
      const at = document.activeElement;
      return at === null || at === document.body ? ["", ""] : [at.textContent.slice(0, 20), getComputedStyle(at).outlineStyle];
    });
    if (name) assert.notEqual(outline, "none", `the focus on "${name}" can not be seen`);
    reached.add(name);
  }
  for (const name of ["Skip to the content", "Depots", "Load", "Microgrid", "Events", "Why?"]) assert.ok(reached.has(name), `${name}: ${[...reached].join(", ")}`);
});
