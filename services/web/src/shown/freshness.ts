/**
 * How old a status is, counted on from what the API said.
 *
 * The API's age counts from the earlier of observation and receipt, by the server's clock; here only the time since the answer arrived is
 * added, so that a wrong clock of this device changes nothing. A status turns stale when its age passes `stale_after_s`, as the API says
 * it. What was never reported has no age, and stays what it is.
 */

export type Aged = { freshness: string; age_s: number | null; stale_after_s: number };

/** The age in seconds by now; null where nothing came yet. Times in ms of one and the same clock. */
export function ageNow(aged: Pick<Aged, "age_s">, answeredAt: number, now: number): number | null {
  return aged.age_s === null ? null : aged.age_s + Math.max(0, now - answeredAt) / 1000;
}

/** FRESH, STALE or NEVER_REPORTED by now. */
export function freshnessNow(aged: Aged, answeredAt: number, now: number): string {
  const age = ageNow(aged, answeredAt, now);
  if (age === null || aged.freshness === "NEVER_REPORTED") return aged.freshness;
  return age > aged.stale_after_s ? "STALE" : "FRESH";
}

// As the API judges: a value that was trusted and is no longer weighs more than one that never came.
const ORDER = ["FRESH", "NEVER_REPORTED", "STALE"];

/** The worst of several, or null for none. */
export function worstFreshness(all: readonly string[]): string | null {
  return all.reduce<string | null>(
    (worst, one) => (worst === null || ORDER.indexOf(one) > ORDER.indexOf(worst) ? one : worst),
    null,
  );
}
