/**
 * Several series on one time axis.
 *
 * The axis is every time that any series has. Where a series has no point of its own at a time it is `undefined`, which a chart passes over;
 * where it says null, nothing was reported, and that is a gap: never a zero, and never bridged. Capabilities become 1 and 0. A capability
 * is drawn in a lane of its own at the foot of the chart, so that its steps stand under the load that they explain.
 */
import type { Read } from "../../api/client.ts";

export type Series = Read["Series"];
export type Point = Series["points"][number];
export type Value = number | null | undefined;

/** A reported value as a number; null for a gap. */
export function asNumber(value: number | string | boolean | null): number | null {
  if (value === null) return null;
  if (typeof value === "boolean") return value ? 1 : 0;
  if (typeof value === "string") return value === "ON" ? 1 : value === "OFF" ? 0 : null;
  return value;
}

/** The common axis in seconds since 1970, and the values of each series on it. */
export function aligned(series: readonly Series[]): { times: number[]; values: Value[][] } {
  const times = [...new Set(series.flatMap((one) => one.points.map(([at]) => Date.parse(at) / 1000)))].sort(
    (a, b) => a - b,
  );
  const place = new Map(times.map((at, index) => [at, index]));
  const values = series.map((one) => {
    const row: Value[] = new Array<Value>(times.length).fill(undefined);
    for (const [at, value] of one.points) row[place.get(Date.parse(at) / 1000) as number] = asNumber(value);
    return row;
  });
  return { times, values };
}

/** The last thing that a series says; null where it says nothing. */
export function lastOf(series: Series): { at: string; value: number } | null {
  for (let index = series.points.length - 1; index >= 0; index--) {
    const [at, value] = series.points[index] as Point;
    const number = asNumber(value);
    if (number !== null) return { at, value: number };
  }
  return null;
}

export const isCapability = (measure: string) => measure === "PEAK_SHAVING" || measure === "DER";
export const unitOf = (measure: string) => (measure.endsWith("_pct") ? "%" : measure.endsWith("_kw") ? "kW" : "");

/** The step in seconds that gives a span some 300 points. */
export const stepFor = (minutes: number) => Math.max(1, Math.round((minutes * 60) / 300));
