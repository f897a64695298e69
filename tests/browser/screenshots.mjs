import path from "node:path";
import { test } from "node:test";
import { useChromium } from "./chromium.mjs";

const open = useChromium();
// So that the chart has something to tell.
const STORY_MS = Number(process.env.STORY_S ?? 240) * 1_000;

test("pictures of the main pages", async (t) => {
  await new Promise((resolve) => setTimeout(resolve, STORY_MS));
  const take = async (name, at, look, prepare = async () => {}) => {
    const page = await open(t, at, look);
    await page.locator("h1").first().waitFor();
    await prepare(page);
    await page.waitForTimeout(1_500);
    await page.screenshot({ path: path.join(process.env.IMAGES, `${name}.png`), animations: "disabled" });
  };
  const chart = (page) => page.locator(".chart canvas").waitFor();
  await take("load-page", "/depot/demo-depot", { width: 1280, height: 960 }, chart);
  await take("load-page-phone", "/depot/demo-depot", { width: 360, height: 780, scheme: "dark" });
  await take("microgrid-page", "/depot/demo-depot/microgrid", { width: 1280, height: 760, scheme: "dark" }, (page) =>
    page.getByText("Diagram", { exact: true }).click(),
  );
  await take("controllers-page", "/depot/demo-depot/controllers", { width: 1280, height: 620 });
});
