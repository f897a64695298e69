/** One person, one window, never loaded again: from the list of depots to the one that needs attention, through its repair, and back. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { eventually, useChromium } from "./chromium.mjs";
import { api, Depot } from "./depot.mjs";
import { controllersSite, editTables, signIn } from "./journey.mjs";

const open = useChromium();
const ID = "journey-repair";
const panel = (page, device) => page.locator(`[data-binding="${ID}-${device}"]`);
const dialog = (page) => page.getByRole("dialog");
const tab = (page, name) => page.getByRole("navigation", { name: "Depot" }).getByRole("link", { name });
const resync = (query) => api("POST", `/api/depot/${ID}/microgrid/resync${query}`);

/** Controllers 1 and 2 claim peak shaving, nobody owns what 3 reports, and the microgrid is not what its circuits say. */
async function misconfigured() {
  const bindings = [
    ["ctrl-1", { PEAK_SHAVING: "PEAK_SHAVING" }],
    ["ctrl-3", { DER: "DER" }],
  ];
  const depot = await Depot.set(ID, { site: controllersSite(ID, bindings) });
  editTables(`
    DELETE FROM capability_control_point WHERE device_id = '${ID}-ctrl-3';
    INSERT INTO sensor_action (sensor_action_id, depot_id, device_id, measurand, action, capability)
        VALUES (uuidv7(), '${ID}', '${ID}-ctrl-2', 'PS_RUNS', 'UPDATE_MICROGRID_STATE', 'PEAK_SHAVING');
    UPDATE microgrid_node SET name = 'Typo' WHERE source_circuit_id = '${ID}-gc-1';
    UPDATE circuit SET position = 1 - position WHERE circuit_id IN ('${ID}-gc-1', '${ID}-gc-2');
    UPDATE circuit SET parent_circuit_id = NULL, position = 5 WHERE circuit_id = '${ID}-k-1';
  `);
  await depot.untilKnown();
  depot.publish("ctrl-1", { PEAK_SHAVING: false });
  for (const value of [false, true]) depot.publish("ctrl-3", { DER: value });
  depot.publish("ctrl-2", { PS_RUNS: true });
  await eventually(async () => [(await depot.card()).remediation_count, (await depot.card()).dead_letter_count], [1, 3]);
  return depot;
}

/** The card's capabilities as the page shows them: status, source and freshness. */
const shownCapabilities = (page) =>
  page.locator("[data-capability]").evaluateAll((all) =>
    all.map((one) => [
      one.dataset.capability,
      one.querySelector("[data-status]").textContent,
      one.querySelector("[data-source]").textContent.trim(),
      one.dataset.freshnessNow,
    ]),
  );

const row = (page) => page.locator("li", { hasText: ID });

async function findIt(page) {
  await page.getByLabel("Search by name or id").waitFor();
  await page.evaluate(() => {
    window.loadedOnce = true;
  });
  await page.getByLabel("Show").selectOption({ label: "With something to settle" });
  await row(page).getByText("3 dead letters").waitFor();
  await row(page).getByRole("link", { name: "1 to settle" }).click();
  const question = page.locator('[data-attention="CAPABILITY_NOT_BOUND"]');
  assert.match(await question.innerText(), new RegExp(`${ID}-ctrl-3[\\s\\S]*create a controller binding`));
  await question.getByRole("link", { name: "Bind a controller" }).click();
}

async function bindTheUnbound(page) {
  await page.getByRole("button", { name: "Bind a controller" }).click();
  await page.getByLabel("Device").fill(`${ID}-ctrl-3`);
  await page.getByLabel("Measurand for Peak shaving").fill("");
  await dialog(page).getByRole("button", { name: "Bind a controller" }).click();
  await panel(page, "ctrl-3").getByText("Never reported").waitFor();
  await dialog(page).waitFor({ state: "detached" });
}

async function settleTheConflict(page) {
  await page.getByRole("button", { name: "Bind a controller" }).click();
  await page.getByLabel("Device").fill(`${ID}-ctrl-2`);
  await page.getByLabel("Measurand for Peak shaving").fill("PS_RUNS");
  await page.getByLabel("Measurand for Distributed").fill("");
  await dialog(page).getByRole("button", { name: "Bind a controller" }).click();
  await page.locator("[data-conflict]").getByText(`owned by ${ID}-ctrl-1`).waitFor();
  await page.getByRole("button", { name: "Create it disabled" }).click();
  await panel(page, "ctrl-2").getByRole("button", { name: "Take over" }).click();
  await dialog(page).getByRole("button", { name: "Take over" }).click();
  await panel(page, "ctrl-2").getByText("Enabled").waitFor();
  await panel(page, "ctrl-1").getByText("Disabled").waitFor();
}

/** A difference in the words of the page, from what the API says. */
const inWords = (told) => [
  ...told.added.map((one) => `Added: ${one.name} ${one.source_circuit_id}`),
  ...told.removed.map((one) => `Removed: ${one.name} ${one.source_circuit_id}`),
  ...told.renamed.map((one) => `Renamed: ${one.name} ${one.source_circuit_id} (was ${one.old_name})`),
  ...told.reordered.map((one) => `New order: ${one.name} ${one.source_circuit_id} (${one.position})`),
];
const changesOn = async (page) => (await page.locator("[data-changes] li").allTextContents()).map((one) => one.trim().replaceAll(/\s+/g, " "));

async function resyncIt(page) {
  await tab(page, "Microgrid").click();
  const { version } = await api("GET", `/api/depot/${ID}/microgrid`);
  await eventually(() => page.locator("[data-version]").textContent(), String(version));
  const told = await resync("?dry_run=true");
  assert.deepEqual(
    [told.added.map((one) => one.source_circuit_id), told.renamed.map((one) => [one.name, one.old_name]), told.reordered.length > 0],
    [[`${ID}-k-1`], [["Grid connection North", "Typo"]], true],
  );
  await page.getByRole("button", { name: "Resync" }).click();
  await eventually(() => changesOn(page), inWords(told), "the preview is the dry run's answer");
  assert.equal((await api("GET", `/api/depot/${ID}/microgrid`)).version, version, "looking changes nothing");
  await page.getByRole("button", { name: "Resync now" }).click();
  await page.getByText("Resynced. This was changed:").waitFor();
  assert.deepEqual(await changesOn(page), inWords(told), "what was changed is what the preview said");
  await dialog(page).getByRole("button", { name: "Close" }).last().click();
  await eventually(() => page.locator("[data-version]").textContent(), String(version + 1));
  const { nodes } = await api("GET", `/api/depot/${ID}/microgrid`);
  assert.deepEqual(nodes.map((one) => one.name), ["Grid connection South", "Grid connection North", "Charger circuit"]);
  await eventually(() => page.locator(".tree-root").allTextContents(), nodes.map((one) => one.name));
  assert.equal((await resync("?dry_run=true")).changed, false);
}

async function replay(page, code, count) {
  await page.locator(`[data-cause="${code}"]`).getByRole("link").click();
  await page.getByRole("button", { name: "Dry run" }).click();
  await page.locator('[data-job="DONE"]').getByText(`STORED: ${count}`).waitFor();
  await dialog(page).getByRole("button", { name: "Close" }).last().click();
  await page.getByRole("button", { name: "Replay", exact: true }).click();
  await dialog(page).getByRole("button", { name: "Replay", exact: true }).click();
  await page.locator('[data-job="DONE"]').getByText(`${count} of ${count} done`).waitFor();
  await dialog(page).getByRole("button", { name: "Close" }).last().click();
  await page.getByRole("link", { name: "All causes" }).click();
  await page.locator(`[data-cause="${code}"]`).waitFor({ state: "detached" });
}

test("a depot that needs attention is found, understood, repaired and seen to come right, without loading the page again", async (t) => {
  const depot = await misconfigured();
  const page = await open(t, "/");
  await signIn(page, "admin");
  await findIt(page);
  await bindTheUnbound(page);
  await settleTheConflict(page);
  await resyncIt(page);

  await tab(page, "Dead letters").click();
  await replay(page, "CAPABILITY_NOT_BOUND", 2);
  await replay(page, "CAPABILITY_SOURCE_CONFLICT", 1);
  await page.getByText("No dead letters").waitFor();
  await eventually(() => tab(page, "Dead letters").innerText(), "Dead letters");
  await eventually(() => tab(page, "Attention").innerText(), "Attention", "the mark at Attention is gone by itself");
  await tab(page, "Attention").click();
  await page.getByText("Nothing to settle").waitFor();

  await tab(page, "Load").click();
  const at = (name, status, device) => [name, status, `${ID}-${device}`, "FRESH"];
  await eventually(() => shownCapabilities(page), [at("PEAK_SHAVING", "ON", "ctrl-2"), at("DER", "ON", "ctrl-3")]);
  await depot.untilKnown();
  depot.publish("ctrl-1", { PEAK_SHAVING: false });
  depot.publish("ctrl-3", { DER: false });
  await eventually(() => shownCapabilities(page), [at("PEAK_SHAVING", "ON", "ctrl-2"), at("DER", "OFF", "ctrl-3")]);

  await page.getByRole("navigation", { name: "Main" }).getByRole("link", { name: "Depots" }).click();
  await page.getByLabel("Search by name or id").fill(ID);
  await eventually(async () => (await row(page).innerText()).match(/\b(ON|OFF|Fresh|Nothing open|to settle|dead letters?)\b/g), ["ON", "OFF", "Fresh", "Nothing open"]);
  assert.equal(await page.evaluate(() => window.loadedOnce), true, "the page was loaded again");
});
