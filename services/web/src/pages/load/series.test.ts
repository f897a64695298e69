import assert from "node:assert/strict";
import { test } from "node:test";
import { aligned, asNumber, lastOf, type Series } from "./series.ts";

const series = (measure: string, ...points: Series["points"]): Series => ({ measure, target: "t", points });

test("series share one axis; a time that is not a series' own is passed over, and its null is a gap", () => {
  const told = aligned([
    series("load_kw", ["2026-01-01T00:00:00Z", 1], ["2026-01-01T00:00:10Z", null]),
    series("DER", ["2026-01-01T00:00:05Z", "ON"]),
  ]);
  const start = Date.parse("2026-01-01T00:00:00Z") / 1000;
  assert.deepEqual(told.times, [start, start + 5, start + 10]);
  assert.deepEqual(told.values, [
    [1, undefined, null],
    [undefined, 1, undefined],
  ]);
});

for (const [value, number] of [
  [true, 1],
  [false, 0],
  ["ON", 1],
  ["OFF", 0],
  [null, null],
  ["else", null],
  [0, 0],
  [-3.5, -3.5],
] as const) {
  test(`${String(value)} is drawn as ${number}`, () => assert.equal(asNumber(value), number));
}

test("the last value is the last that is one", () => {
  assert.deepEqual(lastOf(series("x", ["a", 1], ["b", 0], ["c", null])), { at: "b", value: 0 });
  assert.equal(lastOf(series("x", ["a", null])), null);
});
