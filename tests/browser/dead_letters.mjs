import assert from "node:assert/strict";
import { test } from "node:test";
import { assertAccessible, assertFits, eventually, useChromium } from "./chromium.mjs";
import { api, Depot, publishRaw } from "./depot.mjs";

const open = useChromium();
const letters = async (of, status = "PENDING") => (await api("GET", `/api/dead-letter?${of}&status=${status}`)).items;
const waiting = (of, count) => eventually(async () => (await letters(of)).length, count);
const inDepot = (depot) => `depot_id=${depot.id}`;
const dialog = (page) => page.getByRole("dialog");

test("causes are counted, and a letter shows what came, byte for byte", async (t) => {
  const depot = await Depot.set("web-letters");
  depot.publish("ctrl-1", { SOC: 130.5 });
  depot.publish("ctrl-1", { SOC: 140.5 });
  publishRaw(`iot/v1/${depot.thing("gw")}/${depot.thing("ctrl-1")}/packet`, '{"broken": <b>not html</b>');
  await waiting(inDepot(depot), 3);
  const page = await open(t, `/depot/${depot.id}/dead-letters`);
  await eventually(() => page.locator('[data-cause="INVALID_VALUE"] [data-count]').textContent(), "2");
  await eventually(() => page.locator('[data-cause="MALFORMED_JSON"] [data-count]').textContent(), "1");
  await assertAccessible(page);
  await page.getByRole("link", { name: "MALFORMED_JSON" }).click();
  await page.getByRole("heading", { name: "MALFORMED_JSON" }).waitFor();
  await page.locator("tbody").getByRole("link").first().click();
  await eventually(() => page.locator("[data-body]").textContent(), '{"broken": <b>not html</b>');
  await page.getByRole("heading", { name: "History" }).waitFor();
  await assertAccessible(page);
});

test("a dry run tells and changes nothing; a replay after the cause is mended brings the values in", async (t) => {
  const depot = await Depot.set("web-replays");
  const late = `${depot.id}-late`;
  const ofDevice = `device_id=${late}`;
  for (const soc of [41, 42]) depot.publish("late", { PEAK_SHAVING: true, SOC: soc });
  await waiting(ofDevice, 2);
  // What device it is of nobody knows yet, and so no depot: such letters stand under all of them.
  const page = await open(t, "/dead-letters");
  await page.getByRole("link", { name: "UNKNOWN_DEVICE" }).click();
  await page.waitForURL(/reason=UNKNOWN_DEVICE/);
  await page.goto(`${page.url()}&device=${late}`);
  await page.getByRole("button", { name: "Dry run" }).click();
  await page.locator('[data-job="DONE"]').getByText("DEAD_LETTERED: 2").waitFor();
  await assertAccessible(page);
  await dialog(page).getByRole("button", { name: "Close" }).last().click();
  await waiting(ofDevice, 2);

  await api("POST", "/api/device", { device_id: late, gateway_id: depot.thing("gw"), profile: "bess-meter" });
  await page.getByRole("button", { name: "Replay", exact: true }).click();
  await dialog(page).getByRole("button", { name: "Replay", exact: true }).click();
  await page.locator('[data-job="DONE"]').getByText("2 of 2 done").waitFor();
  await page.getByText("STORED: 2").waitFor();
  await waiting(ofDevice, 0);
  const { items } = await api("GET", `/api/device/${late}/measurement`);
  assert.equal(items.find((one) => one.measurand === "SOC").value, 42);
  await dialog(page).getByRole("button", { name: "Close" }).last().click();
  await page.getByText("No letter fits the filters").waitFor();
  await page.getByLabel("Status").selectOption({ label: "Replayed" });
  await page.locator("tbody").getByText("Replayed", { exact: true }).first().waitFor();
});

test("to give letters up one has to say why", async (t) => {
  const depot = await Depot.set("web-discards");
  depot.publish("ctrl-1", { SOC: 150.5 });
  await waiting(inDepot(depot), 1);
  const page = await open(t, `/depot/${depot.id}/dead-letters`, { width: 360, height: 780, scheme: "dark" });
  await page.getByRole("link", { name: "INVALID_VALUE" }).click();
  await page.getByRole("button", { name: "Discard" }).click();
  await dialog(page).getByRole("button", { name: "Discard" }).click();
  await page.getByText("Say why").waitFor();
  await page.getByLabel("Why?").fill("sensor was being fitted");
  await assertAccessible(page);
  await dialog(page).getByRole("button", { name: "Discard" }).click();
  await page.getByText("1 letter discarded").waitFor();
  assert.equal((await letters(inDepot(depot), "DISCARDED")).length, 1);
  await dialog(page).getByRole("button", { name: "Close" }).last().click();
  await assertFits(page);
});

test("nothing refused is told as what it is", async (t) => {
  const depot = await Depot.set("web-clean");
  const page = await open(t, `/depot/${depot.id}/dead-letters`);
  await page.getByText("No dead letters").waitFor();
  const all = await open(t, "/dead-letters");
  await all.getByRole("heading", { name: "Dead letters" }).waitFor();
  await assertAccessible(all);
});
