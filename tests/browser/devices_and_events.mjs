import assert from "node:assert/strict";
import { test } from "node:test";
import { assertAccessible, assertFits, eventually, useChromium } from "./chromium.mjs";
import { api, Depot } from "./depot.mjs";

const open = useChromium();

test("gateways and devices are shown as they are configured", async (t) => {
  const depot = await Depot.set("web-devices");
  const page = await open(t, `/depot/${depot.id}/devices`);
  const { items } = await api("GET", `/api/device?depot_id=${depot.id}`);
  await page.getByRole("link", { name: depot.thing("ctrl-1") }).waitFor();
  assert.deepEqual(await page.locator("tbody th a").allTextContents(), items.map((one) => one.device_id));
  await assertAccessible(page);
});

test("a device's last packet shows what each of its measurands did, as the API says", async (t) => {
  const depot = await Depot.set("web-packets");
  const packet = depot.publish("ctrl-1", { PEAK_SHAVING: true, SOC: 55.5, HEARTBEAT_STATUS: true, AVAILABLE_CHARGING_CAPACITY: 200 });
  const reported = async () => (await api("GET", `/api/device/${depot.thing("ctrl-1")}/report`)).items.find((one) => one.packet_id === packet);
  await eventually(async () => (await reported())?.events.length, 4);
  const page = await open(t, `/depot/${depot.id}/devices/${depot.thing("ctrl-1")}`);
  const rows = page.locator(`[data-packet="${packet}"] tbody tr`);
  await rows.first().waitFor();
  const shown = await rows.evaluateAll((all) => all.map((row) => [row.cells[0].innerText, row.cells[1].innerText.trim(), row.cells[2].innerText, row.cells[3].innerText]));
  const told = (await reported()).events.map((one) => [one.measurand, one.outcome, String(one.raw_value), one.rule]);
  assert.deepEqual(shown, told);
  await assertAccessible(page);
});

test("what finds no single target stands under Attention with what to do", async (t) => {
  const depot = await Depot.set("web-attention");
  const page = await open(t, `/depot/${depot.id}/attention`);
  await page.getByText("Nothing to settle").waitFor();
  await assertAccessible(page);
  for (const name of ["bess-2", "bess-3"])
    await api("POST", "/api/power_source", { depot_id: depot.id, power_source_id: depot.thing(name), circuit_id: depot.thing("gc-2"), kind: "BATTERY", name });
  await eventually(() => page.locator("[data-connection]").getAttribute("data-connection"), "live");
  await depot.untilKnown();
  depot.publish("lost", { ACTIVE_POWER: 10 });
  await page.locator('[data-attention="AMBIGUOUS_CIRCUIT_POWER_SOURCE"]').first().waitFor();
  const [told] = (await api("GET", `/api/depot/${depot.id}/remediation`)).items;
  await page.getByText(told.advice).waitFor();
  await page.getByText(told.candidates.join(", ")).waitFor();
  await assertAccessible(page);
});

test("events are listed as the API tells them, by type, and older ones on demand", async (t) => {
  const depot = await Depot.set("web-events");
  for (let number = 0; number < 12; number++) depot.publish("meter", { ACTIVE_POWER: number, SOC: number, DEVICE_POWER_STATE: "ON" });
  const told = async (query) => (await api("GET", `/api/microgrid/${depot.microgridId}/event?limit=500${query}`)).items.map((one) => one.event_id);
  const type = "&event_type=PowerSourceLoadReported";
  await eventually(async () => (await told(type)).length, 12);
  const page = await open(t, `/depot/${depot.id}/events`);
  await page.getByLabel("Type").selectOption("PowerSourceLoadReported");
  await page.getByRole("button", { name: "Show", exact: true }).click();
  const shown = () => page.locator("[data-event-id]").evaluateAll((all) => all.map((row) => row.dataset.eventId));
  await eventually(shown, await told(type));
  assert.match(page.url(), /type=PowerSourceLoadReported/);
  await assertAccessible(page);

  await page.getByLabel("From, in Australia/Perth").fill("2020-01-01T00:00:00");
  await page.getByLabel("To, in Australia/Perth").fill("2020-01-02T00:00:00");
  await page.getByRole("button", { name: "Show", exact: true }).click();
  await page.getByText("No events").waitFor();
  assert.match(decodeURIComponent(page.url()), /from=.?2019-12-31T16:00:00.000Z/);
  await page.getByRole("button", { name: "Clear filters" }).click();
  await eventually(async () => (await shown()).length > 12, true);
});

test("older events follow on demand, none twice and none left out", async (t) => {
  const depot = await Depot.set("web-older");
  for (let number = 0; number < 26; number++) depot.publish("meter", { ACTIVE_POWER: number, DEVICE_POWER_STATE: "ON", SOC: 50 });
  const items = async () => (await api("GET", `/api/microgrid/${depot.microgridId}/event?limit=500`)).items;
  await eventually(async () => (await items()).filter((one) => /Reported$|Recorded$/.test(one.event_type)).length, 78);
  const page = await open(t, `/depot/${depot.id}/events`);
  const shown = () => page.locator("[data-event-id]").evaluateAll((all) => all.map((row) => row.dataset.eventId));
  await eventually(async () => (await shown()).length, 50);
  await page.getByRole("button", { name: "Older events" }).click();
  await eventually(shown, (await items()).map((one) => one.event_id));
});

test("times can be read in the depot's zone and in UTC", async (t) => {
  const depot = await Depot.set("web-times");
  depot.publish("ctrl-1", { PEAK_SHAVING: true });
  await eventually(async () => (await depot.card()).capabilities[0].operational_status, "ON");
  const observed = (await depot.card()).capabilities[0].observed_at;
  const page = await open(t, `/depot/${depot.id}`);
  const shown = page.locator(`time[datetime="${observed}"]`).first();
  await shown.waitFor();
  assert.match(await shown.textContent(), /GMT\+8|AWST/);
  await page.getByRole("button", { name: "Depot time" }).click();
  const utc = `${observed.slice(0, 10)} ${observed.slice(11, -1)} UTC`;
  await eventually(() => shown.textContent(), utc);
});

for (const at of ["devices", "attention", "events"]) {
  test(`a phone shows ${at}`, async (t) => {
    const depot = await Depot.set("web-small");
    depot.publish("meter", { ACTIVE_POWER: 1 });
    const page = await open(t, `/depot/${depot.id}/${at}`, { width: 360, height: 780, scheme: "dark" });
    await page.locator("table, .empty").first().waitFor();
    await assertFits(page);
    await assertAccessible(page);
  });
}
