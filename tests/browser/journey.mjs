/** What the journeys share: a person who is signed in, an edit behind the product's back, and a depot that the worker already knows. */
import { execFileSync } from "node:child_process";
import { stack } from "./chromium.mjs";

/** For `open`: the page finds the test's token in its window, as after a sign-in. */
export async function asAdmin(page) {
  await page.addInitScript((token) => {
    sessionStorage.setItem("depotgrid-token", JSON.stringify({ token, until: Date.now() + 3_600_000 }));
  }, stack.token);
}

/** Through the local issuer's own page, as a person does it. */
export async function signIn(page, role) {
  await page.getByRole("button", { name: "Sign in" }).click();
  await chooseRole(page, role);
}

async function chooseRole(page, role) {
  await page.getByLabel("Role", { exact: true }).selectOption(role);
  await page.getByRole("button", { name: "Sign in" }).click();
}

/** Sign in anew from within whatever the page has open, in the second window that it offers. */
export async function signInAgain(page, within = page) {
  const [beside] = await Promise.all([page.waitForEvent("popup"), within.getByRole("button", { name: "Sign in" }).click()]);
  const closed = beside.waitForEvent("close");
  await chooseRole(beside, "admin");
  await closed;
  await within.getByText("Your sign-in has ended").waitFor({ state: "detached" });
}

const EDIT = `
import asyncio, sys
from pathlib import Path
import asyncpg
from operator_cli.places import read_run_file

async def edit():
    connection = await asyncpg.connect(read_run_file(Path(sys.argv[1])).database_url)
    await connection.execute(sys.argv[2])
    await connection.close()

asyncio.run(edit())
`;

/** Edit the tables, as somebody with a database client would. */
export function editTables(statements) {
  execFileSync(stack.python, ["-c", EDIT, stack.data_dir, statements]);
}

/** A site with three controllers of no particular kind, a meter, and what else is given. */
export function controllersSite(depotId, bindings, more = {}) {
  const id = (name) => `${depotId}-${name}`;
  const device = (name, profile) => ({ device_id: id(name), gateway_id: id("gw"), circuit_id: id("gc-1"), profile });
  return {
    depot: { depot_id: depotId, name: `Depot ${depotId}`, timezone: "Australia/Perth" },
    circuits: [
      { circuit_id: id("gc-1"), name: "Grid connection North", position: 0, rating_kw: 500 },
      { circuit_id: id("gc-2"), name: "Grid connection South", position: 1, rating_kw: 300 },
      { circuit_id: id("k-1"), parent_circuit_id: id("gc-1"), name: "Charger circuit", position: 0, rating_kw: 180 },
    ],
    charge_points: [],
    connectors: [],
    power_sources: [{ power_source_id: id("bess"), circuit_id: id("gc-1"), kind: "BATTERY", name: "Battery", rated_kw: 250 }],
    gateways: [{ gateway_id: id("gw"), name: "Gateway" }],
    devices: [...["ctrl-1", "ctrl-2", "ctrl-3"].map((name) => device(name, "generic")), device("meter", "bess-meter")],
    controller_bindings: bindings.map(([name, capabilities]) => ({
      device_id: id(name),
      stale_after_s: 300,
      capabilities: Object.entries(capabilities).map(([capability, measurand]) => ({ capability, measurand })),
    })),
    ...more,
  };
}
