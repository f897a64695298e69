/**
 * Every form and every command of the pages against every way in which a try can fail: the sign-in has ended, the server has a fault, the
 * request never arrives, the answer never arrives though the command was carried out. Each is told, nothing that was typed is lost, and
 * the next try goes out; the last one succeeds. What the server refuses stands at its field. Conflicts are real.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { assertAccessible, eventually, useChromium } from "./chromium.mjs";
import { api, Depot, importWithoutMicrogrid } from "./depot.mjs";
import { asAdmin, controllersSite, editTables, signInAgain } from "./journey.mjs";

const open = useChromium();
const OWNED = [["ctrl-1", { PEAK_SHAVING: "PEAK_SHAVING", DER: "DER" }]];
const dialog = (page) => page.getByRole("dialog");
const panel = (page, depot, device = "ctrl-1") => page.locator(`[data-binding="${depot.thing(device)}"]`);
const bindingsOf = async (depot) => (await api("GET", `/api/depot/${depot.id}/controller-binding`)).items;
const bindingOf = async (depot, device) => (await bindingsOf(depot)).find((one) => one.device_id === depot.thing(device));
const inDialog = (name) => (page) => dialog(page).getByRole("button", { name, exact: true }).click();

/** A binding without an owner's power, as one that is to take over has. */
const contender = (depot, device) =>
  api("POST", `/api/depot/${depot.id}/controller-binding`, {
    device_id: depot.thing(device),
    enabled: false,
    capabilities: [{ capability: "PEAK_SHAVING", measurand: "PS_RUNS" }],
  });

async function withLetter(depot) {
  depot.publish("meter", { SOC: 130.5 });
  await eventually(async () => (await api("GET", `/api/dead-letter?depot_id=${depot.id}&status=PENDING`)).items.length, 1);
}

/** What the server refuses in a binding, all at once, and at which label each fault stands. */
async function refusedBinding(page, bad, sent) {
  await page.getByLabel("Measurand for Peak shaving").fill("SOC");
  await page.getByLabel("Stale after (s)").fill("soon");
  await bad?.();
  const typed = await typedIn(page);
  await sent();
  await atField(page, "Measurand for Peak shaving", /MEASURAND_NOT_SUPPORTED/);
  await atField(page, "Stale after (s)", /INVALID_STALE_AFTER|INVALID|must be/i);
  assert.deepEqual(await typedIn(page), typed);
}

/** The fault that a field is described by. */
async function atField(page, label, fault) {
  const field = page.getByLabel(label).first();
  const said = async () => {
    const ids = ((await field.getAttribute("aria-describedby")) ?? "").split(" ").filter(Boolean);
    return (await Promise.all(ids.map((id) => page.locator(`[id="${id}"]`).textContent()))).join(" ");
  };
  await eventually(async () => fault.test(await said()), true, `${fault} at ${label}`);
}

const typedIn = (page) =>
  page.locator("main, [role=dialog]").locator("input, select, textarea").evaluateAll((all) => all.map((one) => (one.type === "checkbox" ? one.checked : one.value)));

const FORMS = [
  {
    name: "a new binding",
    at: "controllers",
    command: ["POST", /\/controller-binding$/],
    begin: async (page, depot) => {
      await page.getByRole("button", { name: "Bind a controller" }).click();
      await refusedBinding(page, () => page.getByLabel("Device").fill("nobody-of-this-name"), inDialog("Bind a controller").bind(null, page));
      await atField(page, "Device", /UNKNOWN_DEVICE/);
      await page.getByLabel("Device").fill(depot.thing("ctrl-2"));
      await page.getByLabel("Scope").selectOption({ label: "Grid connection South" });
      await page.getByLabel("Measurand for Peak shaving").fill("PS_RUNS");
      await page.getByLabel("Measurand for Distributed").fill("");
      await page.getByLabel("Stale after (s)").fill("77");
    },
    send: inDialog("Bind a controller"),
    done: async (page, depot) => {
      await dialog(page).waitFor({ state: "detached" });
      await panel(page, depot, "ctrl-2").waitFor();
      const made = (await bindingsOf(depot)).filter((one) => one.device_id === depot.thing("ctrl-2"));
      assert.deepEqual(made.map((one) => [one.stale_after_s, one.version]), [[77, 1]]);
    },
  },
  {
    name: "an edited binding",
    at: "controllers",
    command: ["PATCH", /\/controller-binding\//],
    begin: async (page, depot) => {
      await panel(page, depot).getByRole("button", { name: "Edit" }).click();
      await refusedBinding(page, null, inDialog("Save").bind(null, page));
      await page.getByLabel("Measurand for Peak shaving").fill("PS_RUNS");
      await page.getByLabel("Measurand for Distributed").fill("DER_RUNS");
      await page.getByLabel("Stale after (s)").fill("66");
    },
    send: inDialog("Save"),
    done: async (page, depot) => {
      await dialog(page).waitFor({ state: "detached" });
      const { stale_after_s, capabilities, version } = await bindingOf(depot, "ctrl-1");
      assert.deepEqual([stale_after_s, capabilities.map((one) => one.measurand), version], [66, ["PS_RUNS", "DER_RUNS"], 2]);
    },
  },
  {
    name: "a binding that is disabled",
    at: "controllers",
    command: ["PATCH", /\/controller-binding\//],
    begin: (page, depot) => panel(page, depot).waitFor(),
    send: async (page) => {
      const again = page.getByRole("button", { name: "Try again" });
      await ((await again.count()) ? again : page.getByRole("button", { name: "Disable" })).click();
    },
    done: async (page, depot) => {
      await panel(page, depot).getByText("Disabled").waitFor();
      await page.getByRole("alert").waitFor({ state: "detached" });
      assert.equal((await bindingOf(depot, "ctrl-1")).version, 2);
    },
  },
  {
    name: "a take-over",
    at: "controllers",
    command: ["POST", /\/take-over$/],
    before: (depot) => contender(depot, "ctrl-2"),
    begin: (page, depot) => panel(page, depot, "ctrl-2").getByRole("button", { name: "Take over" }).click(),
    send: inDialog("Take over"),
    done: async (page, depot) => {
      await dialog(page).waitFor({ state: "detached" });
      await panel(page, depot, "ctrl-2").getByText("Enabled").waitFor();
      assert.equal((await bindingOf(depot, "ctrl-2")).enabled, true);
    },
  },
  {
    name: "a binding that is deleted",
    at: "controllers",
    command: ["DELETE", /\/controller-binding\//],
    begin: (page, depot) => panel(page, depot).getByRole("button", { name: "Delete" }).click(),
    send: inDialog("Delete"),
    done: async (page, depot) => {
      await page.getByText("No controller is bound").waitFor();
      assert.deepEqual(await bindingsOf(depot), []);
    },
  },
  {
    name: "letters that are given up",
    at: "dead-letters?reason=INVALID_VALUE",
    command: ["POST", /\/discard$/],
    before: withLetter,
    begin: async (page) => {
      await page.getByRole("button", { name: "Discard" }).click();
      await page.getByLabel("Why?").fill("x".repeat(501));
      await inDialog("Discard")(page);
      await atField(page, "Why?", /500/);
      assert.equal(await page.getByLabel("Why?").inputValue(), "x".repeat(501));
      await page.getByLabel("Why?").fill("the sensor was being fitted");
    },
    send: inDialog("Discard"),
    done: async (page, depot) => {
      await page.getByText("1 letter discarded").waitFor();
      const [letter] = (await api("GET", `/api/dead-letter?depot_id=${depot.id}&status=DISCARDED`)).items;
      assert.equal(letter.discarded_why, "the sensor was being fitted");
    },
  },
  {
    name: "a replay",
    at: "dead-letters?reason=INVALID_VALUE",
    command: ["POST", /\/replay$/],
    before: withLetter,
    begin: (page) => page.getByRole("button", { name: "Replay", exact: true }).click(),
    send: async (page) => {
      const again = dialog(page).getByRole("button", { name: "Try again" });
      await ((await again.count()) ? again.click() : inDialog("Replay")(page));
    },
    done: (page) => page.locator('[data-job="DONE"]').getByText("DEAD_LETTERED: 1").waitFor(),
  },
  {
    name: "a resync",
    at: "microgrid",
    command: ["POST", /\/resync\?dry_run=false$/],
    before: (depot) => editTables(`UPDATE microgrid_node SET name = 'Typo' WHERE source_circuit_id = '${depot.thing("gc-1")}'`),
    begin: async (page) => {
      await page.locator(".tree").waitFor();
      await page.getByRole("button", { name: "Resync" }).click();
      await page.locator("[data-changes]").getByText("was Typo").waitFor();
    },
    send: inDialog("Resync now"),
    done: async (page, depot) => {
      await page.getByText(/^Resynced\./).waitFor();
      assert.equal((await api("GET", `/api/depot/${depot.id}/microgrid`)).nodes[0].name, "Grid connection North");
    },
  },
  {
    name: "a microgrid that is provisioned",
    at: "microgrid",
    command: ["POST", /\/microgrid$/],
    set: async (id) => {
      await importWithoutMicrogrid(id, process.env.PROFILE);
      return new Depot(id, null);
    },
    begin: () => undefined,
    send: (page) => page.getByRole("button", { name: "Provision the microgrid" }).click(),
    done: (page) => page.getByText("Grid connection North").waitFor(),
  },
];

const problem = (status, code) => ({ status, contentType: "application/problem+json", json: { type: "about:blank", title: "x", status, detail: "of the test", instance: "/", code } });
const FAULTS = [
  ["TOKEN_EXPIRED", (route) => route.fulfill(problem(401, "TOKEN_EXPIRED"))],
  ["INTERNAL_ERROR", (route) => route.fulfill(problem(500, "INTERNAL_ERROR"))],
  ["UNREACHABLE", (route) => route.abort()],
  [
    "UNREACHABLE",
    async (route) => {
      assert.ok((await route.fetch()).status() < 300, "it was carried out");
      await route.abort();
    },
  ],
];

const CODES = new RegExp(FAULTS.map(([code]) => code).join("|"));

/** Something that is waited for, and how to say that it is there. */
function signal() {
  let say;
  return [new Promise((resolve) => (say = resolve)), say];
}

for (const [number, form] of FORMS.entries()) {
  test(`${form.name}: whatever a try fails of, what was typed stays and the next one goes out`, async (t) => {
    const id = `journey-form-${number}`;
    const depot = form.set ? await form.set(id) : await Depot.set(id, { site: controllersSite(id, OWNED) });
    await form.before?.(depot);
    const page = await open(t, `/depot/${depot.id}/${form.at}`, { prepare: asAdmin });
    await form.begin(page, depot);
    const typed = await typedIn(page);
    const [method, address] = form.command;
    for (const [code, fail] of FAULTS) {
      // The try waits until the page has taken away what it said of the former one: what it says next is of this one.
      const [begun, begin] = signal();
      const [failed, end] = signal();
      await page.route(address, async (route) => {
        if (route.request().method() !== method) return route.fallback();
        await begun;
        end(fail(route));
      });
      await form.send(page);
      await page.getByRole("alert").getByText(CODES).first().waitFor({ state: "detached" });
      begin();
      await failed;
      await page.getByRole("alert").getByText(code).first().waitFor();
      await page.unroute(address);
      if (code === "TOKEN_EXPIRED") {
        await assertAccessible(page);
        await signInAgain(page, (await dialog(page).count()) ? dialog(page) : page.locator("main"));
        await page.getByRole("alert").getByText(code).first().waitFor();
      }
      assert.deepEqual(await typedIn(page), typed, `typed, after ${code}`);
    }
    await form.send(page);
    await form.done(page, depot);
  });
}

test("a binding that somebody changed meanwhile is deleted all the same, at the second try", async (t) => {
  const depot = await Depot.set("journey-form-races", { site: controllersSite("journey-form-races", OWNED) });
  const page = await open(t, `/depot/${depot.id}/controllers`, { prepare: asAdmin });
  await panel(page, depot).getByRole("button", { name: "Delete" }).click();
  const seen = await bindingOf(depot, "ctrl-1");
  await api("PATCH", `/api/controller-binding/${seen.controller_binding_id}`, { stale_after_s: 200 }, { "If-Match": `"${seen.version}"` });
  await inDialog("Delete")(page);
  await dialog(page).getByRole("alert").getByText("VERSION_CONFLICT").waitFor();
  await inDialog("Delete")(page);
  await page.getByText("No controller is bound").waitFor();
  assert.deepEqual(await bindingsOf(depot), []);
});

test("an edit that would make a second owner is refused with nothing lost, and saved without that", async (t) => {
  const depot = await Depot.set("journey-form-second", { site: controllersSite("journey-form-second", OWNED) });
  await contender(depot, "ctrl-2");
  const page = await open(t, `/depot/${depot.id}/controllers`, { prepare: asAdmin });
  await panel(page, depot, "ctrl-2").getByRole("button", { name: "Edit" }).click();
  await page.getByLabel("Stale after (s)").fill("55");
  await page.getByLabel("Enabled").check();
  const typed = await typedIn(page);
  await inDialog("Save")(page);
  await page.locator("[data-conflict]").getByText(`owned by ${depot.thing("ctrl-1")}`).waitFor();
  assert.deepEqual(await typedIn(page), typed);
  await page.getByLabel("Enabled").uncheck();
  await inDialog("Save")(page);
  await dialog(page).waitFor({ state: "detached" });
  const { enabled, stale_after_s } = await bindingOf(depot, "ctrl-2");
  assert.deepEqual([enabled, stale_after_s, (await bindingOf(depot, "ctrl-1")).enabled], [false, 55, true]);
});

test("a take-over from somebody who lost it meanwhile names the new owner, and takes it from that one", async (t) => {
  const depot = await Depot.set("journey-form-owners", { site: controllersSite("journey-form-owners", OWNED) });
  await contender(depot, "ctrl-2");
  const third = await contender(depot, "ctrl-3");
  const page = await open(t, `/depot/${depot.id}/controllers`, { prepare: asAdmin });
  await panel(page, depot, "ctrl-2").getByRole("button", { name: "Take over" }).click();
  await dialog(page).getByText(`${depot.thing("ctrl-1")} owns`).waitFor();
  await api("POST", `/api/controller-binding/${third.controller_binding_id}/take-over`, { expected_device_id: depot.thing("ctrl-1") });
  await inDialog("Take over")(page);
  await dialog(page).getByRole("alert").getByText("CAPABILITY_SOURCE_CONFLICT").waitFor();
  await dialog(page).getByText(`${depot.thing("ctrl-3")} owns`).waitFor();
  await inDialog("Take over")(page);
  await panel(page, depot, "ctrl-2").getByText("Enabled").waitFor();
  assert.deepEqual([(await bindingOf(depot, "ctrl-2")).enabled, (await bindingOf(depot, "ctrl-3")).enabled], [true, false]);
});

test("filters stay through a fault, and what they ask for comes at the second try", async (t) => {
  const depot = await Depot.set("journey-form-filters", { site: controllersSite("journey-form-filters", OWNED) });
  const page = await open(t, `/depot/${depot.id}/events`, { prepare: asAdmin });
  await page.getByLabel("Type").selectOption("MicrogridProvisioned");
  await page.getByLabel("From, in Australia/Perth").fill("2020-01-01T00:00:00");
  const typed = await typedIn(page);
  await page.route(/\/event\?/, (route) => route.fulfill(problem(500, "INTERNAL_ERROR")));
  await page.getByRole("button", { name: "Show", exact: true }).click();
  await page.getByRole("alert").getByText("INTERNAL_ERROR").waitFor();
  await page.unroute(/\/event\?/);
  assert.deepEqual(await typedIn(page), typed);
  await page.getByRole("button", { name: "Try again" }).click();
  await page.locator("[data-event-id]").getByText("MicrogridProvisioned").first().waitFor();
  assert.deepEqual(await typedIn(page), typed);
});
