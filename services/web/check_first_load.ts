/**
 * What a browser fetches before a depot's page works, held to its bound: at most 250 kB of JavaScript, gzip. Counted are the entry, the
 * page's own part and all that either imports statically; what they load when it is needed (charts, diagrams) is not.
 */
import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const LIMIT_BYTES = 250_000;
const PAGES = ["src/depot_frame.tsx", "src/pages/load/load_page.tsx"];
type Part = { file: string; imports?: string[]; isEntry?: boolean };

const dist = new URL("./dist/", import.meta.url);
const manifest = JSON.parse(readFileSync(new URL(".vite/manifest.json", dist), "utf8")) as Record<string, Part>;
const wanted = Object.keys(manifest).filter((name) => manifest[name]?.isEntry || PAGES.includes(name));
for (const page of PAGES) if (!wanted.includes(page)) throw new Error(`${page} is no part of the build`);
const files = new Set<string>();
for (const name of wanted) {
  const part = manifest[name] as Part;
  files.add(part.file);
  wanted.push(...(part.imports ?? []).filter((one) => !wanted.includes(one)));
}
const bytes = [...files].reduce(
  (sum, file) => sum + gzipSync(readFileSync(new URL(file, dist)), { level: 9 }).length,
  0,
);
console.log(
  `first load of a depot's page: ${(bytes / 1000).toFixed(1)} kB of JavaScript (gzip), at most ${LIMIT_BYTES / 1000}`,
);
if (bytes > LIMIT_BYTES) process.exit(1);
