import assert from "node:assert/strict";
import { test } from "node:test";
import { assertAccessible, assertFits, eventually, useChromium } from "./chromium.mjs";
import { api, Depot } from "./depot.mjs";

const open = useChromium();
const THOUSANDS = 2_000;
const PAGE = 250;

/** Stands in for a service with thousands of depots, page by page as it tells them. */
async function thousands(page) {
  const of = (number) => ({
    depot_id: `d-${String(number).padStart(4, "0")}`,
    name: `Depot number ${number}`,
    timezone: "UTC",
    microgrid_id: number % 10 ? `m-${number}` : null,
    created_at: "2026-01-01T00:00:00Z",
    updated_at: "2026-01-01T00:00:00Z",
    summary: { capabilities: [], freshness: "NEVER_REPORTED", remediation_count: number % 7 ? 0 : 2, dead_letter_count: 0 },
  });
  await page.route(/\/api\/depot\?/, (route) => {
    const from = Number(new URL(route.request().url()).searchParams.get("cursor") ?? 0);
    const to = Math.min(from + PAGE, THOUSANDS);
    const items = Array.from({ length: to - from }, (_, index) => of(from + index));
    return route.fulfill({ json: { items, next: to < THOUSANDS ? String(to) : null } });
  });
}

test("every depot is listed as the API tells it, and leads to its page", async (t) => {
  const depot = await Depot.set("web-list");
  depot.publish("ctrl-1", { PEAK_SHAVING: true, DER: false });
  await eventually(async () => (await depot.card()).capabilities.map((one) => one.operational_status), ["ON", "OFF"]);
  const page = await open(t, "/");
  await page.getByLabel("Search by name or id").fill("web-list");
  const row = page.locator("li", { hasText: "web-list" });
  await eventually(async () => (await row.innerText()).match(/\b(ON|OFF|Fresh|Stale|Never reported)\b/g), ["ON", "OFF", "Fresh"]);
  const { items } = await api("GET", "/api/depot?limit=500");
  await page.getByText(items.length === 1 ? "1 depot" : `1 of ${items.length} depots`, { exact: true }).waitFor();
  await assertAccessible(page);
  await row.getByRole("link").first().click();
  await page.getByRole("heading", { name: "Depot web-list" }).waitFor();
});

test("thousands of depots can be searched and scrolled, and only what is in sight is drawn", async (t) => {
  const page = await open(t, "/", { prepare: thousands });
  await page.getByText(`${THOUSANDS} depots`, { exact: true }).waitFor();
  assert.ok((await page.locator("li").count()) < 60);
  await page.evaluate(() => window.scrollTo(0, document.body.scrollHeight));
  await page.getByText(`Depot number ${THOUSANDS - 1}`, { exact: true }).waitFor();
  await page.getByLabel("Search by name or id").fill("number 1234");
  await page.getByText(`1 of ${THOUSANDS} depots`).waitFor();
  await page.getByLabel("Search by name or id").fill("");
  await page.getByLabel("Show").selectOption({ label: "Without microgrid" });
  await page.getByText(`${THOUSANDS / 10} of ${THOUSANDS} depots`).waitFor();
  await page.getByLabel("Search by name or id").fill("no such depot");
  await page.getByText("No depot matches").waitFor();
});

test("a phone shows the list", async (t) => {
  const page = await open(t, "/", { width: 360, height: 780, scheme: "dark", prepare: thousands });
  await page.getByText("Depot number 1", { exact: true }).waitFor();
  await assertFits(page);
  await assertAccessible(page);
});

for (const [status, code, words] of [
  [403, "FORBIDDEN", "Your role does not allow this"],
  [500, "INTERNAL_ERROR", "This did not work"],
]) {
  test(`an answer ${status} is told with what to do`, async (t) => {
    const problem = { type: "about:blank", title: "no", status, detail: "because of the test", instance: "/api/depot", code };
    const prepare = (page) => page.route(/\/api\/depot\?/, (route) => route.fulfill({ status, contentType: "application/problem+json", json: problem }));
    const page = await open(t, "/", { prepare });
    await page.getByText(words).waitFor();
    await page.getByText("because of the test").waitFor();
    await page.getByText(code).waitFor();
    await assertAccessible(page);
    await page.unroute(/\/api\/depot\?/);
    await page.getByRole("button", { name: "Try again" }).click();
    await page.getByLabel("Search by name or id").waitFor();
  });
}

test("a service that does not answer is waited for", async (t) => {
  const prepare = (page) => page.route(/\/api\/depot\?/, (route) => route.abort());
  const page = await open(t, "/", { prepare });
  await page.getByText("Depotgrid does not answer").waitFor();
  await page.unroute(/\/api\/depot\?/);
  await page.getByLabel("Search by name or id").waitFor();
});

test("an address that is no page says so", async (t) => {
  const page = await open(t, "/no-such-page");
  await page.getByText("There is no such page").waitFor();
  await assertAccessible(page);
});

test("no depots yet is told with what makes one", async (t) => {
  const prepare = (page) => page.route(/\/api\/depot\?/, (route) => route.fulfill({ json: { items: [], next: null } }));
  const page = await open(t, "/", { prepare });
  await page.getByText("No depots yet").waitFor();
  await assertAccessible(page);
});
