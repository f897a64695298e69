import assert from "node:assert/strict";
import { test } from "node:test";
import { assertAccessible, eventually, stack, useChromium } from "./chromium.mjs";
import { api, Depot } from "./depot.mjs";

const open = useChromium();

/** Through the local issuer's own page, as a person does it. */
async function signIn(page, role, depots = "") {
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByLabel("Role", { exact: true }).selectOption(role);
  await page.getByLabel("Depots").fill(depots);
  await page.getByRole("button", { name: "Sign in" }).click();
}

test("who is not signed in is asked to, and comes back to where they were", async (t) => {
  const depot = await Depot.set("web-guarded");
  const page = await open(t, `/depot/${depot.id}/microgrid`);
  await page.getByText("Sign-in is for development only").waitFor();
  await page.getByRole("button", { name: "Sign in" }).waitFor();
  await assertAccessible(page);
  await signIn(page, "viewer");
  await page.getByText("Grid connection North").waitFor();
  assert.equal(new URL(page.url()).pathname, `/depot/${depot.id}/microgrid`);
  await eventually(() => page.locator("[data-connection]").getAttribute("data-connection"), "live");
});

test("what a role does not allow is told with the role that does", async (t) => {
  const depot = await Depot.set("web-forbidden");
  const page = await open(t, `/depot/${depot.id}/microgrid`);
  await signIn(page, "viewer");
  await page.getByRole("button", { name: "Resync" }).click();
  await page.getByText("Your role does not allow this").waitFor();
  await page.getByRole("dialog").getByText(/admin/).waitFor();
  await assertAccessible(page);
});

test("other depots are not there", async (t) => {
  const [own, other] = [await Depot.set("web-own"), await Depot.set("web-other")];
  const page = await open(t, `/depot/${other.id}`);
  await signIn(page, "viewer", own.id);
  await page.getByText("There is no such thing, or it is not yours to see").waitFor();
  await page.getByRole("link", { name: "To the depots" }).click();
  await page.getByText("1 depot", { exact: true }).waitFor();
});

test("a sign-in that ends is renewed in a second window, and what was typed stays", async (t) => {
  const depot = await Depot.set("web-ends");
  const page = await open(t, `/depot/${depot.id}/events`);
  await signIn(page, "viewer");
  await page.getByLabel("From, in Australia/Perth").fill("2020-01-01T00:00:00");
  const over = { status: 401, contentType: "application/problem+json", json: { type: "x", title: "x", status: 401, detail: "over", instance: "/", code: "TOKEN_EXPIRED" } };
  await page.route(/\/api\//, (route) => route.fulfill(over));
  await page.getByLabel("Type").selectOption("MeasurementRecorded");
  await page.getByRole("link", { name: "Depots" }).hover();
  await page.evaluate(() => window.dispatchEvent(new Event("visibilitychange")));
  await page.getByRole("button", { name: "Show", exact: true }).click();
  await page.getByText("Your sign-in has ended").waitFor();
  await page.unroute(/\/api\//);
  // What is asked meanwhile, and refused only when somebody has signed in again, does not end that.
  let refuse;
  const again = new Promise((resolve) => (refuse = resolve));
  await page.route(/\/event\?/, async (route) => (await again, route.fulfill(over)), { times: 1 });
  const asked = page.waitForRequest(/\/event\?/);
  await page.getByLabel("Type").selectOption("MicrogridProvisioned");
  await page.getByRole("button", { name: "Show", exact: true }).click();
  const refused = (await asked).response();
  const [beside] = await Promise.all([
    page.waitForEvent("popup"),
    page.getByRole("button", { name: "Sign in" }).click(),
  ]);
  const closed = beside.waitForEvent("close");
  await beside.getByLabel("Role", { exact: true }).selectOption("viewer");
  await beside.getByRole("button", { name: "Sign in" }).click();
  await closed;
  await page.getByText("Your sign-in has ended").waitFor({ state: "detached" });
  refuse();
  await refused;
  await page.locator("[data-event-id]").getByText("MicrogridProvisioned").first().waitFor();
  assert.equal(await page.getByText("Your sign-in has ended").count(), 0);
  assert.equal(await page.getByLabel("From, in Australia/Perth").inputValue(), "2020-01-01T00:00");
  await eventually(() => page.locator("[data-connection]").getAttribute("data-connection"), "live");
});

test("signing out forgets the token", async (t) => {
  const page = await open(t, "/");
  await signIn(page, "admin");
  await page.getByLabel("Search by name or id").waitFor();
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByRole("button", { name: "Sign in" }).waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.getItem("depotgrid-token")), null);
  await page.reload();
  await page.getByRole("button", { name: "Sign in" }).waitFor();
});

test("an answer that belongs to no question of this window is refused", async (t) => {
  const page = await open(t, "/signed-in?code=stolen&state=another");
  await page.getByText("does not belong to a question of this window").waitFor();
  assert.equal(stack.token === null, false);
  assert.equal((await api("GET", "/api/depot?limit=1")).items.length <= 1, true);
});
