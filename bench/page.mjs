/**
 * One page of a depot in Chromium, and packets that mosquitto_pub publishes one by one: prints how many milliseconds each took, from
 * before mosquitto_pub was started until the page's document showed its status. Page and publisher read the same machine's clock.
 */
import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { createRequire } from "node:module";
import { promisify } from "node:util";

const { chromium } = createRequire(new URL("../services/web/package.json", import.meta.url))("playwright-core");
const { url, mqtt_port, depot, gateway, device, tries, warm, profile, executable } = JSON.parse(process.argv[2]);
const BOUND_MS = 30_000;
// Beyond the quarter of a second within which a stream sends one card, and at no fixed place of the page's clock.
const pause = () => new Promise((resolve) => setTimeout(resolve, 300 + Math.random() * 250));

function publish(value) {
  const sent_at = new Date().toISOString();
  const packet = { schema_version: "1.0", packet_id: randomUUID(), gateway_id: gateway, device_id: device, sent_at, measurands: [{ key: "PEAK_SHAVING", value }] };
  const to = ["-h", "127.0.0.1", "-p", String(mqtt_port), "-V", "5", "-q", "1", "-t", `iot/v1/${gateway}/${device}/packet`];
  return promisify(execFile)("mosquitto_pub", [...to, "-m", JSON.stringify(packet)]);
}

/** Runs in the page: notes when the status last became another one. */
function watch() {
  const status = () => document.querySelector('[data-capability="PEAK_SHAVING"] [data-status]')?.textContent;
  window.shown = { status: status(), at: 0 };
  new MutationObserver(() => {
    const now = status();
    if (now !== window.shown.status) window.shown = { status: now, at: performance.timeOrigin + performance.now() };
  }).observe(document.body, { subtree: true, childList: true, characterData: true });
}

const browser = await chromium.launchPersistentContext(profile, { executablePath: executable, headless: true, args: ["--no-sandbox", "--disable-gpu"] });
const [page] = browser.pages();
await page.goto(`${url}/depot/${depot}`);
await page.locator('[data-connection="live"]').waitFor({ timeout: BOUND_MS });
await page.locator('[data-capability="PEAK_SHAVING"]').waitFor({ timeout: BOUND_MS });
await page.evaluate(watch);
const took = [];
for (let number = 0; number < warm + tries; number++) {
  await pause();
  const on = number % 2 === 0;
  const begun = performance.timeOrigin + performance.now();
  await publish(on);
  await page.waitForFunction((expected) => window.shown.status === expected, on ? "ON" : "OFF", { timeout: BOUND_MS });
  if (number >= warm) took.push((await page.evaluate(() => window.shown.at)) - begun);
}
await browser.close();
console.log(JSON.stringify(took));
