/** A depot of a test's own, set up over HTTP; packets to it over MQTT; and what the API says of it. */
import assert from "node:assert/strict";
import { execFile, execFileSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { promisify } from "node:util";
import { eventually, stack } from "./chromium.mjs";

/** Ask the API; the parsed answer, of a status below 400. */
export async function api(method, address, body, headers = {}) {
  const known = stack.token ? { Authorization: `Bearer ${stack.token}`, ...headers } : headers;
  const said = body === undefined ? {} : { body: JSON.stringify(body), headers: { "Content-Type": "application/json", ...known } };
  const answer = await fetch(stack.url + address, { method, headers: known, ...said });
  const text = await answer.text();
  assert.ok(answer.status < 400, `${method} ${address}: ${answer.status} ${text}`);
  return text ? JSON.parse(text) : null;
}

/** A site document: two grid connections, a battery, a bound controller, and a second one that is not bound. */
export function siteOf(depotId, { staleAfterS = 300 } = {}) {
  const id = (name) => `${depotId}-${name}`;
  return {
    depot: { depot_id: depotId, name: `Depot ${depotId}`, timezone: "Australia/Perth" },
    circuits: [
      { circuit_id: id("gc-1"), name: "Grid connection North", position: 0, rating_kw: 500, safe_capacity_kw: 100 },
      { circuit_id: id("gc-2"), name: "Grid connection South", position: 1, rating_kw: 300 },
      { circuit_id: id("k-1"), parent_circuit_id: id("gc-1"), name: "Charger circuit", position: 0, rating_kw: 180 },
    ],
    charge_points: [{ charge_point_id: id("cp-1"), circuit_id: id("k-1"), name: "Bay 1", max_kw: 150 }],
    connectors: [{ connector_id: id("cp-1-1"), charge_point_id: id("cp-1"), number: 1, max_kw: 150 }],
    power_sources: [{ power_source_id: id("bess"), circuit_id: id("gc-1"), kind: "BATTERY", name: "Battery", rated_kw: 250 }],
    gateways: [{ gateway_id: id("gw"), name: "Gateway" }],
    devices: [
      { device_id: id("ctrl-1"), gateway_id: id("gw"), circuit_id: id("gc-1"), profile: "bba-microgrid-controller" },
      { device_id: id("ctrl-2"), gateway_id: id("gw"), circuit_id: id("gc-2"), profile: "generic" },
      { device_id: id("meter"), gateway_id: id("gw"), circuit_id: id("gc-1"), profile: "bess-meter" },
      { device_id: id("lost"), gateway_id: id("gw"), circuit_id: id("gc-2"), profile: "bess-meter" },
    ],
    controller_bindings: [
      {
        device_id: id("ctrl-1"),
        stale_after_s: staleAfterS,
        capabilities: [
          { capability: "PEAK_SHAVING", measurand: "PEAK_SHAVING" },
          { capability: "DER", measurand: "DER" },
        ],
      },
    ],
  };
}

export class Depot {
  constructor(depotId, microgridId) {
    this.id = depotId;
    this.microgridId = microgridId;
  }

  static async set(depotId, options = {}) {
    const site = { ...siteOf(depotId, options), ...options.site };
    await api("PUT", `/api/depot/${depotId}/site`, site);
    const { microgrid_id } = await api("GET", `/api/depot/${depotId}/microgrid`);
    const depot = new Depot(depotId, microgrid_id);
    await depot.untilKnown();
    return depot;
  }

  thing(name) {
    return `${this.id}-${name}`;
  }

  /** Publish measurands as a device, by key; gives back the packet's id. */
  publish(device, values, { gateway = this.thing("gw") } = {}) {
    const packetId = randomUUID();
    const measurands = Object.entries(values).map(([key, value]) => ({ key, value }));
    const packet = {
      schema_version: "1.0",
      packet_id: packetId,
      gateway_id: gateway,
      device_id: this.thing(device),
      sent_at: new Date().toISOString(),
      measurands,
    };
    publishRaw(`iot/v1/${gateway}/${this.thing(device)}/packet`, JSON.stringify(packet));
    return packetId;
  }

  /** The worker knows the depot. It learns changes in their order: packets of a device that came later tell. */
  async untilKnown() {
    const probe = await (probes ??= probeDepot());
    const device = randomUUID();
    await api("POST", "/api/device", { device_id: probe.thing(device), gateway_id: probe.thing("gw"), profile: "bess-meter" });
    await eventually(
      async () => {
        probe.publish(device, { IMPORT_ENERGY: 50 });
        await new Promise((resolve) => setTimeout(resolve, 20));
        return (await api("GET", `/api/device/${probe.thing(device)}/measurement`)).items.length > 0;
      },
      true,
      `the worker knows ${this.id}`,
    );
  }

  card() {
    return api("GET", `/api/depot/${this.id}/microgrid/card`);
  }
}

let probes;
/** A depot in which devices appear whose packets say what the worker knows by now. */
async function probeDepot() {
  const probe = new Depot("zz-probe", null);
  const depot = { depot_id: probe.id, name: "What the worker knows", timezone: "UTC" };
  const circuits = [{ circuit_id: probe.thing("gc"), name: "Grid connection", rating_kw: 100 }];
  await api("PUT", `/api/depot/${probe.id}/site`, { depot, circuits, gateways: [{ gateway_id: probe.thing("gw"), name: "Gateway" }] });
  return probe;
}

/** Load a depot as an older system would have left it: with circuits and without a microgrid. */
export function importWithoutMicrogrid(depotId, folder) {
  const file = path.join(folder, `${depotId}.json`);
  writeFileSync(file, JSON.stringify({ ...siteOf(depotId), controller_bindings: [] }));
  execFileSync(stack.python, ["-m", "operator_cli", "site", "import", file, "--no-provision", "--data-dir", stack.data_dir]);
}

/** What a command of ours prints, asked of the stack as an operator at its machine does. */
export async function command(...words) {
  const environment = { ...process.env, ...(stack.token ? { DEPOTGRID_AUTH: "dev" } : {}) };
  const { stdout } = await promisify(execFile)(stack.python, ["-m", "operator_cli", ...words, "--data-dir", stack.data_dir], { env: environment });
  return stdout.trim();
}

/** Publish bytes to a topic, as a gateway that is none of ours; returns when the broker has them. */
export function publishRaw(topic, text) {
  execFileSync("mosquitto_pub", ["-h", "127.0.0.1", "-p", String(stack.mqtt_port), "-V", "5", "-q", "1", "-t", topic, "-m", text]);
}

/** Kill a service of the stack at once; whoever supervises it starts it again. */
export function killService(module) {
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const command = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
      const parent = Number(/^PPid:\s+(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]);
      if (parent === stack.pid && command.includes(module)) {
        process.kill(Number(pid), "SIGKILL");
        return;
      }
    } catch (fault) {
      if (fault.code !== "ENOENT" && fault.code !== "ESRCH") throw fault;
    }
  }
  assert.fail(`no ${module} below process ${stack.pid}`);
}
