import assert from "node:assert/strict";
import { test } from "node:test";
import { assertAccessible, assertFits, eventually, useChromium } from "./chromium.mjs";
import { api, Depot, importWithoutMicrogrid } from "./depot.mjs";

const open = useChromium();

test("the tree shows the structure from grid connections down to connectors", async (t) => {
  const depot = await Depot.set("web-tree");
  const page = await open(t, `/depot/${depot.id}/microgrid`);
  await page.getByRole("button", { name: "Open all" }).click();
  const shown = (await page.locator(".tree .id").allTextContents()).toSorted();
  assert.deepEqual(shown, ["bess", "cp-1", "cp-1-1", "gc-1", "gc-2", "k-1"].map((name) => depot.thing(name)).toSorted());
  const told = await api("GET", `/api/depot/${depot.id}/microgrid`);
  assert.equal(await page.locator("[data-version]").textContent(), String(told.version));
  await page.getByText(told.microgrid_id).waitFor();
  await assertAccessible(page);
});

test("the diagram shows every part of it, and can be reached by keyboard", async (t) => {
  const depot = await Depot.set("web-diagram");
  const page = await open(t, `/depot/${depot.id}/microgrid`);
  await page.getByText("Diagram", { exact: true }).click();
  await eventually(() => page.locator(".react-flow__node").count(), 6);
  await eventually(() => page.locator(".react-flow__edge").count(), 4);
  await assertAccessible(page);
});

test("a resync shows first what would change, and then changes that", async (t) => {
  const depot = await Depot.set("web-resync");
  const page = await open(t, `/depot/${depot.id}/microgrid`);
  await page.getByRole("button", { name: "Resync" }).click();
  await page.getByText("Nothing differs").waitFor();
  await assertAccessible(page);
  await page.getByRole("dialog").getByRole("button", { name: "Close" }).last().click();
  const told = { ...(await api("POST", `/api/depot/${depot.id}/microgrid/resync?dry_run=true`)), changed: true };
  const drifted = { ...told, renamed: [{ node_id: null, source_circuit_id: depot.thing("gc-1"), name: "Right", position: 0, old_name: "Wrong" }] };
  await page.route(/resync\?dry_run=true/, (route) => route.fulfill({ json: drifted }));
  await page.getByRole("button", { name: "Resync" }).click();
  assert.match(await page.locator("[data-changes]").textContent(), /Renamed: Right .*was Wrong/);
  await page.getByRole("button", { name: "Resync now" }).click();
  await page.getByText("Resynced. Nothing had to change.").waitFor();
});

test("a change of the structure arrives while one looks", async (t) => {
  const depot = await Depot.set("web-grows");
  const page = await open(t, `/depot/${depot.id}/microgrid`);
  await eventually(() => page.locator("[data-connection]").getAttribute("data-connection"), "live");
  await eventually(() => page.locator("[data-version]").textContent(), "1");
  await api("POST", "/api/circuit", { depot_id: depot.id, circuit_id: depot.thing("gc-3"), name: "Grid connection West", position: 2 });
  await eventually(() => page.locator("[data-version]").textContent(), "2");
  await page.getByText("Grid connection West").waitFor();
});

test("a depot without a microgrid says so everywhere, and can be given one", async (t) => {
  importWithoutMicrogrid("web-bare", process.env.PROFILE);
  const page = await open(t, "/depot/web-bare");
  await page.getByText("This depot has no microgrid").waitFor();
  await assertAccessible(page);
  await page.getByRole("link", { name: "Events" }).click();
  await page.getByText("This depot has no microgrid").waitFor();
  // What was asked before and is answered afterwards tells how it was.
  const given = page.waitForResponse((answer) => answer.request().method() === "POST" && answer.url().endsWith("/microgrid"));
  const late = async (route) => {
    const before = await route.fetch();
    await given;
    await route.fulfill({ response: before });
  };
  await page.route(/\/microgrid\/structure$/, late, { times: 1 });
  await page.getByRole("navigation", { name: "Depot" }).getByRole("link", { name: "Microgrid" }).click();
  await page.getByRole("button", { name: "Provision the microgrid" }).click();
  await page.getByText("Grid connection North").waitFor();
  await page.getByRole("link", { name: "Load" }).click();
  await page.locator('[data-capability="PEAK_SHAVING"]').getByText("Never reported").waitFor();
});

test("a phone shows tree and diagram", async (t) => {
  const depot = await Depot.set("web-small-tree");
  const page = await open(t, `/depot/${depot.id}/microgrid`, { width: 360, height: 780, scheme: "dark" });
  await page.getByRole("button", { name: "Open all" }).click();
  await assertFits(page);
  await assertAccessible(page);
});
