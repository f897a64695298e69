/**
 * The walk over all states of all pages (`states_table.mjs`), each in light and dark at a phone's, a laptop's and a wall screen's width:
 * the words stand there, nothing is wider than the window, no line is too long to be read, and axe finds nothing.
 *
 * A state is brought about once and then looked at six ways in place. STATES=whole lets axe and the camera see all six; otherwise each
 * state has its turn at one of them, so that all states and all of the six occur.
 */
import assert from "node:assert/strict";
import { globSync, mkdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { describe, test } from "node:test";
import { drawn, faultsOfAxe, PATIENCE_MS, useChromium } from "./chromium.mjs";
import { words } from "../../services/web/src/words.ts";
import { COMPONENTS, FRAME, NEVER, PAGES, PASSING, STATES, TABLE } from "./states_table.mjs";
import { signedIn } from "./states_ways.mjs";

const open = useChromium();
const SOURCE = new URL("../../services/web/src/", import.meta.url);
const WHOLE = process.env.STATES === "whole";
const PICTURES = path.resolve("build", "states");
const HEIGHT = { 360: 780, 1280: 800, 2560: 1440 };
const LOOKS = ["light", "dark"].flatMap((scheme) => [360, 1280, 2560].map((width) => ({ scheme, width })));
// No more words in a line than the eye finds back from.
const LONGEST_LINE_PX = 1_100;
const SETTLES_MS = 10_000;
mkdirSync(PICTURES, { recursive: true });

const nameOf = (row) => `${row.page}: ${row.state}${row.times ? ` (${row.times})` : ""}`;
const fileOf = (row, look) => `${nameOf(row).replaceAll(/[^a-zA-Z0-9]+/g, "-").toLowerCase()}.${look.width}.${look.scheme}.jpg`;

/** All that is said on the page, the names of things that only assistive technology reads included. */
const saidOn = (page) =>
  page.evaluate(() => {
    const labels = [...document.querySelectorAll("[aria-label]")].map((one) => one.getAttribute("aria-label"));
    return `${document.body.innerText}\n${labels.join("\n")}`.replaceAll(/\s+/g, " ");
  });

async function stands(page, row) {
  await page.waitForFunction(
    (words) => {
      const labels = [...document.querySelectorAll("[aria-label]")].map((one) => one.getAttribute("aria-label"));
      const said = `${document.body.innerText}\n${labels.join("\n")}`.replaceAll(/\s+/g, " ");
      return words.every((one) => said.includes(one));
    },
    row.words,
    { timeout: PATIENCE_MS },
  ).catch(async (fault) => {
    const said = await saidOn(page);
    throw new Error(`${nameOf(row)}: missing ${JSON.stringify(row.words.filter((one) => !said.includes(one)))} in: ${said.slice(0, 1500)}`, { cause: fault });
  });
}

/** What is too wide for the window, cut off at its edge, or set in lines that are too long. */
const faultsOfRoom = (page) =>
  page.evaluate((longest) => {
    const faults = [];
    const beyond = document.documentElement.scrollWidth - window.innerWidth;
    if (beyond > 0) faults.push(`wider than the window by ${beyond} px`);
    const scrolls = (one) => one !== null && (["auto", "scroll"].includes(getComputedStyle(one).overflowX) || scrolls(one.parentElement));
    const clipped = (one) => one !== null && (getComputedStyle(one).clipPath !== "none" || clipped(one.parentElement));
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const range = document.createRange();
    for (let text = walker.nextNode(); text; text = walker.nextNode()) {
      if (!text.data.trim() || text.parentElement.closest("pre, script, noscript, .react-flow, .u-legend") || clipped(text.parentElement)) continue;
      range.selectNodeContents(text);
      for (const line of range.getClientRects()) {
        if (line.width > longest) faults.push(`a line of ${Math.round(line.width)} px: "${text.data.slice(0, 60)}"`);
        if (line.right > window.innerWidth + 1 && line.width > 1 && !scrolls(text.parentElement)) faults.push(`beyond the edge: "${text.data.slice(0, 60)}"`);
      }
    }
    return [...new Set(faults)];
  }, LONGEST_LINE_PX);

async function look(page, { scheme, width }) {
  await page.emulateMedia({ colorScheme: scheme });
  await page.setViewportSize({ width, height: HEIGHT[width] });
  await drawn(page);
}

/** What is still wrong when the page has had time to settle: a chart draws itself anew after its window, a lost connection is looked for. */
async function settledFaults(page, row) {
  const deadline = Date.now() + SETTLES_MS;
  for (;;) {
    const said = await saidOn(page);
    const faults = [
      ...row.words.filter((one) => !said.includes(one)).map((one) => `"${one}" does not stand there`),
      ...(row.without ?? []).filter((one) => said.includes(one)).map((one) => `"${one}" stands there`),
      ...(await faultsOfRoom(page)),
    ];
    if (!faults.length || Date.now() > deadline) return faults;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

async function faultsIn(page, row, at, closely) {
  await look(page, at);
  const faults = await settledFaults(page, row);
  if (closely) {
    faults.push(...(await faultsOfAxe(page)));
    await page.screenshot({ path: path.join(PICTURES, fileOf(row, at)), type: "jpeg", quality: 80, animations: "disabled", fullPage: at.width === 360 });
  }
  return faults.map((one) => `${nameOf(row)}, ${at.scheme}, ${at.width} px: ${one}`);
}

describe("every state of every page", { concurrency: 2 }, () => {
  TABLE.forEach((row, number) => {
    row.times = TABLE.slice(0, number).filter((one) => one.page === row.page && one.state === row.state).length;
    test(nameOf(row), async (t) => {
      const at = typeof row.at === "string" ? row.at : await row.at();
      const prepare = async (page) => {
        if (row.as !== null) await signedIn(page, row.as ?? "viewer");
        if (row.clock) await page.clock.install();
        await row.before?.(page);
      };
      const page = await open(t, at, { prepare, complains: row.complains });
      await row.after?.(page);
      await stands(page, row);
      const faults = [];
      for (const [index, one] of LOOKS.entries()) faults.push(...(await faultsIn(page, row, one, WHOLE || index === number % LOOKS.length)));
      assert.deepEqual(faults, []);
    });
  });
});

const source = (file) => readFileSync(new URL(file, SOURCE), "utf8");
const found = (text, what) => [...text.matchAll(what)].map((one) => one.slice(1));

test("every address of the code belongs to a page of the table", () => {
  const routes = source("routes.tsx");
  const top = found(routes, /getParentRoute: \(\) => root,\s+path: "([^"]+)"/g).map(([one]) => one);
  const below = [...found(routes, /getParentRoute: \(\) => depot,\s+path: "([^"]+)"/g), ...found(routes, /below\(\s*"([^"]+)"/g)].map(([one]) => `/depot/$depotId${one}`);
  assert.deepEqual([...top, ...below].toSorted(), [...Object.values(PAGES).flat(), ...FRAME].toSorted());
});

test("every page is seen in every state, or it is said why it can not be", () => {
  const faults = Object.keys(PAGES).flatMap((page) =>
    STATES.map((state) => [page, state, TABLE.some((row) => row.page === page && row.state === state), state in (NEVER[page] ?? {})])
      .filter(([, , seen, never]) => seen === never)
      .map(([, , seen]) => `${page}: ${state}: ${seen ? "is seen, and said never to occur" : "is not seen"}`),
  );
  assert.deepEqual(faults, []);
});

test("every component of a state is known to the table", () => {
  const offered = globSync("states/*.tsx", { cwd: SOURCE }).flatMap((file) => found(source(file), /^export function (\w+)/gm).map(([name]) => name));
  assert.deepEqual(offered.toSorted(), Object.keys(COMPONENTS).toSorted());
  for (const state of Object.values(COMPONENTS)) assert.ok(STATES.includes(state), state);
});

/** The words that an expression of a source means, as `w.empty` where `w` is `words.devices`. */
function meant(text, expression) {
  const [first, ...rest] = expression.split(".");
  const [named] = found(text, new RegExp(`const ${first} = words\\.([\\w.]+);`, "g"));
  const taken = first !== "words" && !named ? [first] : [];
  return [...(named?.[0].split(".") ?? []), ...taken, ...rest].reduce((within, name) => within?.[name], words);
}

test("whatever the pages say of a state is said by a row of the table", () => {
  const empties = globSync("**/*.tsx", { cwd: SOURCE }).flatMap((file) =>
    found(source(file), /<Empty title=\{([\w.]+)\}/g).map(([expression]) => [`${file}: ${expression}`, meant(source(file), expression)]),
  );
  const { fault, live, freshness } = words;
  const told = {
    ...Object.fromEntries(empties),
    ...Object.fromEntries(["unreachable", "forbidden", "notFound", "noMicrogrid", "overtaken", "other", "notRefreshed", "page", "crashed"].map((one) => [one, fault[one]])),
    ...freshness,
    loading: words.loading,
    lost: live.lost,
    back: live.back,
  };
  assert.ok(empties.length > 10, "the empty states are found");
  const said = TABLE.flatMap((row) => row.words);
  const unsaid = Object.entries(told).filter(([, text]) => !(text in PASSING) && !said.some((one) => text !== undefined && (one.includes(text) || (one.length > 15 && text.startsWith(one)))));
  assert.deepEqual(unsaid, []);
});
