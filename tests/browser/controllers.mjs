import assert from "node:assert/strict";
import { test } from "node:test";
import { assertAccessible, assertFits, eventually, useChromium } from "./chromium.mjs";
import { api, Depot } from "./depot.mjs";

const open = useChromium();
const bindingsOf = async (depot) => (await api("GET", `/api/depot/${depot.id}/controller-binding`)).items;
const bindingOf = async (depot, device) => (await bindingsOf(depot)).find((one) => one.device_id === depot.thing(device));
const panel = (page, depot, device) => page.locator(`[data-binding="${depot.thing(device)}"]`);

async function fillNew(page, depot, device) {
  await page.getByRole("button", { name: "Bind a controller" }).click();
  await page.getByLabel("Device").fill(depot.thing(device));
  await page.getByLabel("Measurand for Peak shaving").fill("PS_RUNS");
  await page.getByLabel("Measurand for Distributed").fill("");
}

const send = (page, name) => page.getByRole("dialog").getByRole("button", { name, exact: true }).click();

test("bindings are shown as the API tells them", async (t) => {
  const depot = await Depot.set("web-bound", { staleAfterS: 90 });
  const page = await open(t, `/depot/${depot.id}/controllers`);
  await panel(page, depot, "ctrl-1").waitFor();
  const [told] = await bindingsOf(depot);
  assert.match(await panel(page, depot, "ctrl-1").innerText(), /Whole site[\s\S]*1 min 30 s/);
  assert.equal(await page.locator("[data-binding-version]").textContent(), String(told.version));
  await assertAccessible(page);
});

test("a second owner is a conflict; it is made disabled, and takes over", async (t) => {
  const depot = await Depot.set("web-takes");
  const page = await open(t, `/depot/${depot.id}/controllers`);
  await panel(page, depot, "ctrl-1").waitFor();
  await fillNew(page, depot, "ctrl-2");
  await assertAccessible(page);
  await send(page, "Bind a controller");
  assert.match(await page.locator("[data-conflict]").innerText(), new RegExp(depot.thing("ctrl-1")));
  assert.equal(await page.getByLabel("Measurand for Peak shaving").inputValue(), "PS_RUNS");
  await assertAccessible(page);
  await page.getByRole("button", { name: "Create it disabled, to take over afterwards" }).click();
  await panel(page, depot, "ctrl-2").getByText("Disabled").waitFor();
  assert.equal((await bindingOf(depot, "ctrl-2")).enabled, false);

  await panel(page, depot, "ctrl-2").getByRole("button", { name: "Take over" }).click();
  await page.getByRole("dialog").getByText(`${depot.thing("ctrl-1")} owns`).waitFor();
  await assertAccessible(page);
  await send(page, "Take over");
  await panel(page, depot, "ctrl-2").getByText("Enabled").waitFor();
  const owned = (await bindingOf(depot, "ctrl-2")).capabilities.map((one) => one.capability);
  assert.deepEqual([(await bindingOf(depot, "ctrl-2")).enabled, owned], [true, ["PEAK_SHAVING"]]);
});

test("when somebody else was faster both versions are shown, and either can be chosen", async (t) => {
  const depot = await Depot.set("web-races");
  const page = await open(t, `/depot/${depot.id}/controllers`);
  const elsewhere = async (stale_after_s) => {
    const seen = await bindingOf(depot, "ctrl-1");
    await api("PATCH", `/api/controller-binding/${seen.controller_binding_id}`, { stale_after_s }, { "If-Match": `"${seen.version}"` });
  };
  await panel(page, depot, "ctrl-1").getByRole("button", { name: "Edit" }).click();
  await page.getByLabel("Stale after (s)").fill("77");
  await elsewhere(200);
  await send(page, "Save");
  assert.match(await page.locator("[data-newer]").innerText(), /77[\s\S]*200/);
  await assertAccessible(page);
  await page.getByRole("button", { name: "Save mine over it" }).click();
  await eventually(async () => (await bindingOf(depot, "ctrl-1")).stale_after_s, 77);
  await page.getByRole("dialog").waitFor({ state: "detached" });

  await panel(page, depot, "ctrl-1").locator('[data-stale-after="77"]').waitFor();
  await panel(page, depot, "ctrl-1").getByRole("button", { name: "Edit" }).click();
  await page.getByLabel("Stale after (s)").fill("88");
  await elsewhere(300);
  await send(page, "Save");
  await page.getByRole("button", { name: "Take the current one" }).click();
  await eventually(() => page.getByLabel("Stale after (s)").inputValue(), "300");
  assert.equal((await bindingOf(depot, "ctrl-1")).stale_after_s, 300);
});

test("every fault stands at its field, and nothing that was typed is lost", async (t) => {
  const depot = await Depot.set("web-faults");
  const page = await open(t, `/depot/${depot.id}/controllers`);
  await fillNew(page, depot, "nobody");
  await page.getByLabel("Stale after (s)").fill("0");
  await send(page, "Bind a controller");
  const faultOf = async (label) => {
    const field = page.getByLabel(label, { exact: false }).first();
    const ids = ((await field.getAttribute("aria-describedby")) ?? "").split(" ").filter(Boolean);
    return (await Promise.all(ids.map((id) => page.locator(`[id="${id}"]`).textContent()))).join(" ");
  };
  await eventually(async () => /UNKNOWN_DEVICE/.test(await faultOf("Device")), true);
  assert.match(await faultOf("Stale after (s)"), /INVALID_STALE_AFTER/);
  assert.deepEqual(
    [await page.getByLabel("Device").inputValue(), await page.getByLabel("Stale after (s)").inputValue(), await page.getByLabel("Measurand for Peak shaving").inputValue()],
    [depot.thing("nobody"), "0", "PS_RUNS"],
  );
  await assertAccessible(page);
});

test("a binding is disabled, enabled and deleted", async (t) => {
  const depot = await Depot.set("web-turns");
  const page = await open(t, `/depot/${depot.id}/controllers`, { width: 360, height: 780, scheme: "dark" });
  await panel(page, depot, "ctrl-1").getByRole("button", { name: "Disable" }).click();
  await panel(page, depot, "ctrl-1").getByText("Disabled").waitFor();
  await panel(page, depot, "ctrl-1").getByRole("button", { name: "Enable" }).click();
  await panel(page, depot, "ctrl-1").getByText("Enabled").waitFor();
  await assertFits(page);
  await assertAccessible(page);
  await panel(page, depot, "ctrl-1").getByRole("button", { name: "Delete" }).click();
  await send(page, "Delete");
  await page.getByText("No controller is bound").waitFor();
  assert.deepEqual(await bindingsOf(depot), []);
});
