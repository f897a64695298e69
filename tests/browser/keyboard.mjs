import assert from "node:assert/strict";
import { test } from "node:test";
import { eventually, useChromium } from "./chromium.mjs";
import { Depot } from "./depot.mjs";

const open = useChromium();
const MOST_PRESSES = 600;
const BELOW = { Load: "", Microgrid: "/microgrid", Controllers: "/controllers", Devices: "/devices", Attention: "/attention", "Dead letters": "/dead-letters", Events: "/events" };

let made;
/** A depot on whose pages there is something of everything. */
function depotOfKeys() {
  made ??= (async () => {
    const depot = await Depot.set("web-keyboard");
    depot.publish("ctrl-1", { PEAK_SHAVING: true, DER: false });
    depot.publish("ctrl-1", { SOC: 130.5 });
    await eventually(async () => [(await depot.card()).capabilities[0].operational_status, (await depot.card()).dead_letter_count], ["ON", 1]);
    return depot;
  })();
  return made;
}

/** What a person has to be able to reach: everything that can be pressed, opened, chosen or typed into. Of a group of choices it is the chosen one. */
const wanted = (page) =>
  page.evaluate(() => {
    const all = [...document.querySelectorAll("a[href], button, input, select, summary, textarea, [tabindex='0']")];
    const there = all.filter((one) => !one.disabled && one.checkVisibility() && !(one.type === "radio" && !one.checked));
    there.forEach((one, number) => (one.dataset.key = String(number)));
    return there.map((one) => `${one.tagName.toLowerCase()} "${(one.getAttribute("aria-label") ?? one.textContent).trim().slice(0, 40)}"`);
  });

/** Where the focus is, and how one sees it: the outline of the control itself or, where it is drawn by its label, of that. */
const focused = (page) =>
  page.evaluate(() => {
    const at = document.activeElement;
    if (at === null || at === document.body) return null;
    const seen = at.type === "radio" ? [getComputedStyle(at.nextElementSibling)] : [getComputedStyle(at)];
    const outlined = seen.some((style) => style.outlineStyle !== "none" && Number.parseFloat(style.outlineWidth) >= 2 && !/, 0\)$|transparent/.test(style.outlineColor));
    const { top, bottom } = at.getBoundingClientRect();
    return { key: at.dataset.key ?? null, outlined, within: bottom > 0 && top < window.innerHeight, html: at.outerHTML.slice(0, 120) };
  });

async function walk(page) {
  const names = await wanted(page);
  const reached = new Set();
  for (let press = 0; press < MOST_PRESSES; press++) {
    await page.keyboard.press("Tab");
    const at = await focused(page);
    if (at === null) break;
    if (!at.outlined) assert.fail(`the focus can not be seen: ${at.html}`);
    if (!at.within) assert.fail(`the focus is out of sight: ${at.html}`);
    if (at.key !== null) reached.add(Number(at.key));
  }
  assert.deepEqual(names.filter((_, number) => !reached.has(number)), [], "not to be reached by Tab");
  assert.ok(names.length > 5, "there is something to reach");
}

for (const name of ["Depots", ...Object.keys(BELOW)]) {
  test(`${name}: everything can be reached by Tab, and where one is can be seen in light and dark`, async (t) => {
    const depot = await depotOfKeys();
    const page = await open(t, name === "Depots" ? "/" : `/depot/${depot.id}${BELOW[name]}`);
    await page.locator("main :is(a, button, summary, select)").first().waitFor();
    if (name !== "Depots") await eventually(() => page.locator("[data-connection]").getAttribute("data-connection"), "live");
    await eventually(() => page.locator(".skeleton").count(), 0);
    for (const scheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme: scheme });
      await page.evaluate(() => document.activeElement?.blur?.());
      await walk(page);
    }
  });
}

test("the skip link leads past the navigation", async (t) => {
  const depot = await depotOfKeys();
  const page = await open(t, `/depot/${depot.id}/controllers`);
  await page.getByRole("button", { name: "Bind a controller" }).waitFor();
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to the content");
  await page.keyboard.press("Enter");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.querySelector("main").contains(document.activeElement)), true);
  assert.equal(await page.evaluate(() => document.activeElement.closest("header") === null), true);
});

test("what opens does so by Enter and by Space, and a dialog gives the focus back to what opened it", async (t) => {
  const depot = await depotOfKeys();
  const page = await open(t, `/depot/${depot.id}`);
  const why = page.getByText("Why?").first();
  await why.focus();
  for (const [key, opened] of [["Enter", true], ["Space", false]]) {
    await page.keyboard.press(key);
    assert.equal(await why.evaluate((one) => one.parentElement.open), opened, key);
  }
  await page.getByRole("link", { name: "Microgrid" }).focus();
  await page.keyboard.press("Enter");
  const resync = page.getByRole("button", { name: "Resync" });
  await resync.waitFor();
  for (const key of ["Enter", "Space"]) {
    await resync.focus();
    await page.keyboard.press(key);
    const dialog = page.getByRole("dialog");
    await dialog.getByText("Nothing differs").waitFor();
    const within = () => dialog.evaluate((one) => one.contains(document.activeElement));
    await eventually(within, true, "the focus goes into the dialog");
    for (let press = 0; press < 6; press++) {
      await page.keyboard.press("Tab");
      assert.equal(await within(), true, "the focus stays in the dialog");
    }
    await page.keyboard.press("Escape");
    await dialog.waitFor({ state: "detached" });
    await eventually(() => resync.evaluate((one) => one === document.activeElement), true);
  }
});

test("choices are made by arrows", async (t) => {
  const depot = await depotOfKeys();
  const page = await open(t, `/depot/${depot.id}/microgrid`);
  await page.getByText("Grid connection North").waitFor();
  await page.getByRole("radio", { name: "Tree" }).focus();
  await page.keyboard.press("ArrowRight");
  await page.locator(".react-flow__node").first().waitFor();
  await page.keyboard.press("ArrowLeft");
  await page.locator(".tree").waitFor();
});

/** Every text that live regions come to hold from now on, as a listener is told them. */
const listen = (page) =>
  page.evaluate(() => {
    window.announced = [];
    const spoken = '[aria-live="polite"], [aria-live="assertive"], [role="status"], [role="alert"]';
    new MutationObserver((changes) => {
      const regions = new Set(changes.map((one) => (one.target.closest ? one.target : one.target.parentElement)?.closest(spoken)).filter(Boolean));
      for (const region of regions) window.announced.push(region.textContent);
    }).observe(document.body, { subtree: true, childList: true, characterData: true });
    window.listeningSince = performance.now();
  });

test("a capability that flickers is announced once in a while, at last as it is, and ages are never read out", async (t) => {
  const depot = await Depot.set("web-flickers");
  depot.publish("ctrl-1", { PEAK_SHAVING: true, DER: true });
  const page = await open(t, `/depot/${depot.id}`);
  const status = page.locator('[data-capability="PEAK_SHAVING"] [data-status]');
  await eventually(() => status.textContent(), "ON");
  await eventually(() => page.locator("[data-connection]").getAttribute("data-connection"), "live");
  await eventually(() => page.locator(".skeleton").count(), 0);
  await listen(page);
  await page.evaluate(() => {
    window.turns = 0;
    const at = document.querySelector('[data-capability="PEAK_SHAVING"] [data-status]');
    new MutationObserver(() => window.turns++).observe(at, { subtree: true, childList: true, characterData: true });
  });
  const age = () => page.locator("[data-age]").first().textContent();
  const before = await age();
  for (let turn = 0; turn < 15; turn++) {
    const [packet, wantedNext] = turn % 2 ? [true, "ON"] : [false, "OFF"];
    depot.publish("ctrl-1", { PEAK_SHAVING: packet });
    await eventually(() => status.textContent(), wantedNext);
  }
  await eventually(() => page.evaluate(() => window.announced.at(-1)), "Peak shaving is now OFF");
  await eventually(async () => (await age()) !== before, true);
  const { announced, turns, during } = await page.evaluate(() => ({ announced: window.announced, turns: window.turns, during: performance.now() - window.listeningSince }));
  assert.ok(turns >= 15, `the card has changed ${turns} times`);
  assert.ok(announced.length <= 2 + during / 3_000, `${announced.length} announcements in ${Math.round(during)} ms: ${announced.join(" | ")}`);
  assert.deepEqual(announced.filter((one) => !/^Peak shaving is now (ON|OFF)$/.test(one)), [], "nothing else is announced");
});

test("a lost connection is announced once, not with every second", async (t) => {
  const depot = await depotOfKeys();
  const page = await open(t, `/depot/${depot.id}`);
  await eventually(() => page.locator("[data-connection]").getAttribute("data-connection"), "live");
  await eventually(() => page.locator(".skeleton").count(), 0);
  await listen(page);
  await page.context().setOffline(true);
  const banner = page.locator('[data-banner="lost"]');
  await banner.waitFor();
  const before = await banner.textContent();
  await eventually(async () => (await banner.textContent()) !== before, true);
  assert.deepEqual(await page.evaluate(() => window.announced.filter((one) => /connect/i.test(one))), ["Disconnected"]);
});
