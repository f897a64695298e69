import assert from "node:assert/strict";
import { test } from "node:test";
import { ageNow, freshnessNow, worstFreshness } from "./freshness.ts";
import { bytesText, numberText, valueText, withUnit } from "./number.ts";
import { fromLocal, spanText, toLocal, utcText, zonedText } from "./time.ts";

const aged = (freshness: string, age_s: number | null) => ({ freshness, age_s, stale_after_s: 10 });

test("an age counts on from the answer, and a clock set back does not make it younger", () => {
  assert.equal(ageNow({ age_s: 2.5 }, 1_000, 4_000), 5.5);
  assert.equal(ageNow({ age_s: 2.5 }, 1_000, 0), 2.5);
  assert.equal(ageNow({ age_s: null }, 1_000, 4_000), null);
});

for (const [name, status, elapsedMs, expected] of [
  ["at its last moment a status is fresh", aged("FRESH", 4), 6_000, "FRESH"],
  ["past it the same status is stale", aged("FRESH", 4), 6_001, "STALE"],
  ["what the server calls stale stays so", aged("STALE", 11), 0, "STALE"],
  ["what never came does not age", aged("NEVER_REPORTED", null), 100_000, "NEVER_REPORTED"],
] as const) {
  test(name, () => assert.equal(freshnessNow(status, 0, elapsedMs), expected));
}

test("the worst of several is stale, then never reported, then fresh, as the API judges", () => {
  assert.equal(worstFreshness(["FRESH", "NEVER_REPORTED", "STALE", "FRESH"]), "STALE");
  assert.equal(worstFreshness(["FRESH", "NEVER_REPORTED"]), "NEVER_REPORTED");
  assert.equal(worstFreshness(["FRESH"]), "FRESH");
  assert.equal(worstFreshness([]), null);
});

for (const [value, text] of [
  [0, "0"],
  [-0.0001, "0"],
  [-120, "−120"],
  [71.93, "71.93"],
  [33.333333333333336, "33.333"],
  [1234567.5, "1234567.5"],
] as const) {
  test(`the number ${value} reads ${text}`, () => assert.equal(numberText(value), text));
}

test("not known is null and never 0", () => {
  assert.equal(withUnit(null, "kW"), null);
  assert.equal(withUnit(0, "kW"), "0 kW");
  assert.equal(valueText(null), null);
  assert.equal(valueText(false), "false");
});

for (const [seconds, text] of [
  [-3, "0 s"],
  [0.9, "0 s"],
  [59.9, "59 s"],
  [60, "1 min 00 s"],
  [3599, "59 min 59 s"],
  [3600, "1 h 00 min"],
  [86_399, "23 h 59 min"],
  [86_400, "1 d 0 h"],
  [200_000, "2 d 7 h"],
] as const) {
  test(`${seconds} s read ${text}`, () => assert.equal(spanText(seconds), text));
}

test("a time is shown in the depot's zone, and as exactly what the API said in UTC", () => {
  assert.match(zonedText("2026-11-21T03:10:20.130000Z", "Australia/Perth"), /^21 Nov 2026, 11:10:20 /);
  assert.equal(utcText("2026-11-21T03:10:20.130000Z"), "2026-11-21 03:10:20.130000 UTC");
});

test("a zone that this browser does not know is shown as UTC", () => {
  assert.match(zonedText("2026-11-21T03:10:20Z", "Mars/Olympus"), /^21 Nov 2026, 03:10:20 UTC$/);
});

for (const [local, zone, utc] of [
  ["2026-11-21T11:10", "Australia/Perth", "2026-11-21T03:10:00.000Z"],
  ["2026-07-01T12:00:30", "Europe/Berlin", "2026-07-01T10:00:30.000Z"],
  ["2026-03-29T02:30", "Europe/Berlin", null], // the clocks skip it
  ["2026-10-25T02:30", "Europe/Berlin", "2026-10-25T00:30:00.000Z"], // twice; the first of the two
  ["2026-10-25T03:00", "Europe/Berlin", "2026-10-25T02:00:00.000Z"],
  ["nonsense", "UTC", null],
] as const) {
  test(`${local} in ${zone} is ${utc}`, () => assert.equal(fromLocal(local, zone), utc));
}

test("a time comes back from what a field held", () => {
  const at = "2026-10-25T09:15:20.000Z";
  for (const zone of ["Australia/Perth", "Australia/Adelaide", "America/New_York", "UTC"]) {
    assert.equal(fromLocal(toLocal(at, zone), zone), at);
  }
});

test("bytes have the unit of their size", () => {
  assert.deepEqual([bytesText(1023), bytesText(1024), bytesText(1_572_864)], ["1023 B", "1.0 KiB", "1.5 MiB"]);
});
