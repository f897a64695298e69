/**
 * A Chromium of a test's own, fresh and without a network beyond this machine, that fails a test on whatever a page complains about.
 *
 * What the tests run against stands in the environment: STACK (JSON: url, mqtt_port, pid), CHROMIUM (the browser), PROFILE (a folder).
 */
import assert from "node:assert/strict";
import { mkdtempSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { after, before } from "node:test";

const installed = createRequire(new URL("../../services/web/package.json", import.meta.url));
const { chromium } = installed("playwright-core");
const { source: axeSource } = installed("axe-core");

export const stack = JSON.parse(process.env.STACK);
export const PATIENCE_MS = 30_000;
const FLAGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
// The browser itself tells of every answer that is a refusal; the tests that make one look for what the page says of it.
const OF_THE_NETWORK = /Failed to load resource|net::ERR/;

/** The browser of a file of tests: started before the first, ended after the last. */
export function useChromium() {
  let context;
  before(async () => {
    context = await chromium.launchPersistentContext(mkdtempSync(path.join(process.env.PROFILE, "profile-")), {
      executablePath: process.env.CHROMIUM,
      headless: true,
      args: FLAGS,
      timezoneId: "UTC",
    });
    context.setDefaultTimeout(PATIENCE_MS);
  });
  after(async () => context?.close());

  /** A page at an address; ends with the test, which fails if the page complained and nobody said that it would. */
  return async function open(t, at, { width = 1280, height = 900, scheme = "light", prepare, complains = false } = {}) {
    const page = await context.newPage();
    const complaints = [];
    page.on("console", (said) => {
      if (["error", "warning"].includes(said.type()) && !OF_THE_NETWORK.test(said.text())) complaints.push(said.text());
    });
    page.on("pageerror", (fault) => complaints.push(String(fault)));
    t.after(async () => {
      await context.setOffline(false);
      await page.close();
      if (!complains) assert.deepEqual(complaints, [], "the page complained");
    });
    await page.emulateMedia({ colorScheme: scheme, reducedMotion: "reduce" });
    await page.setViewportSize({ width, height });
    await prepare?.(page);
    await page.goto(stack.url + at);
    return page;
  };
}

// Every rule but those of level AAA and those that axe itself still tries out.
const TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];

/** What was begun is drawn: half way from one look to another no text has the contrast that it has in either. */
export function drawn(page) {
  return page.evaluate(async () => {
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
    const fading = document.getAnimations().filter((one) => one instanceof CSSTransition);
    await Promise.allSettled(fading.map((one) => one.finished));
  });
}

/** What axe has to say against the page as it stands; nothing of WCAG 2.2 AA may be broken. */
export async function faultsOfAxe(page) {
  if (!(await page.evaluate(() => "axe" in window))) await page.evaluate(axeSource);
  // A button whose command was answered just now fades in again.
  await drawn(page);
  return page.evaluate(async (tags) => {
    const { violations } = await window.axe.run(document, { runOnly: { type: "tag", values: tags }, resultTypes: ["violations"] });
    return violations.map((one) => `${one.id}: ${one.help}\n  ${one.nodes.map((node) => `${node.html.slice(0, 200)} ${node.failureSummary}`).join("\n  ")}`);
  }, TAGS);
}

/** Nothing that axe knows of WCAG 2.2 AA is broken on the page as it stands. */
export async function assertAccessible(page) {
  assert.deepEqual(await faultsOfAxe(page), [], `axe at ${page.url()}`);
}

/** The page is no wider than its window. */
export async function assertFits(page) {
  assert.equal(await page.evaluate(() => Math.max(0, document.documentElement.scrollWidth - window.innerWidth)), 0, `${page.url()} is too wide`);
}

/** Watch for what may be on the page for a short while only; waits, when it is called, until it was there since then. */
export async function watchFor(page, selector) {
  await page.evaluate((selector) => {
    window.seen ??= {};
    const look = () => (window.seen[selector] ||= document.querySelector(selector) !== null);
    new MutationObserver(look).observe(document.body, { subtree: true, childList: true, attributes: true });
    look();
  }, selector);
  return () => eventually(() => page.evaluate((selector) => window.seen[selector], selector), true, `${selector} was there`);
}

/** Wait until something is as expected, however busy the machine is; the last difference is told when the time is up. */
export async function eventually(look, expected, what) {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    const found = await look();
    try {
      assert.deepEqual(found, expected, what);
      return;
    } catch (different) {
      if (Date.now() > deadline) throw different;
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
