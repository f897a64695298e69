/**
 * Times for people: in the depot's zone, with the exact UTC at hand, and back from what a person types into the depot's zone.
 *
 * A local time that a change of clocks skips does not exist and is null; one that it repeats is the first of the two.
 */

const formats = new Map<string, Intl.DateTimeFormat>();

function format(zone: string, options: Intl.DateTimeFormatOptions): Intl.DateTimeFormat {
  const key = `${zone} ${JSON.stringify(options)}`;
  let found = formats.get(key);
  if (!found) {
    try {
      found = new Intl.DateTimeFormat("en-GB", { ...options, timeZone: zone });
    } catch {
      found = new Intl.DateTimeFormat("en-GB", { ...options, timeZone: "UTC" });
    }
    formats.set(key, found);
  }
  return found;
}

/** Date, time to the second and the zone's short name. */
export function zonedText(at: string, zone: string): string {
  return format(zone, {
    day: "numeric",
    month: "short",
    year: "numeric",
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
    hourCycle: "h23",
    timeZoneName: "short",
  }).format(new Date(at));
}

/** The time of day alone. */
export function clockText(at: string | number, zone: string): string {
  return format(zone, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" }).format(new Date(at));
}

/** Exactly what the API said, in UTC, readable. */
export function utcText(at: string): string {
  const [date, time] = at.replace("Z", "").replace("+00:00", "").split("T");
  return `${date} ${time} UTC`;
}

/** A span of seconds, to the precision that matters for its size; never below 0. */
export function spanText(seconds: number): string {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${String(s % 60).padStart(2, "0")} s`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${String(Math.floor((s % 3600) / 60)).padStart(2, "0")} min`;
  return `${Math.floor(s / 86_400)} d ${Math.floor((s % 86_400) / 3600)} h`;
}

function offsetMs(at: number, zone: string): number {
  const parts = format(zone, {
    year: "numeric",
    month: "2-digit",
    day: "2-digit",
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
    hourCycle: "h23",
  }).formatToParts(new Date(at));
  const part = (type: string) => Number(parts.find((one) => one.type === type)?.value ?? 0);
  const shown = Date.UTC(part("year"), part("month") - 1, part("day"), part("hour"), part("minute"), part("second"));
  return shown - Math.floor(at / 1000) * 1000;
}

/** What `<input type="datetime-local">` holds, taken in a zone, as UTC; null where no such time exists. */
export function fromLocal(local: string, zone: string): string | null {
  const wanted = Date.parse(`${local}Z`);
  if (Number.isNaN(wanted)) return null;
  const candidates = [offsetMs(wanted - 86_400_000, zone), offsetMs(wanted + 86_400_000, zone)].map(
    (offset) => wanted - offset,
  );
  const fits = candidates.filter((at) => at + offsetMs(at, zone) === wanted).sort((a, b) => a - b);
  return fits[0] === undefined ? null : new Date(fits[0]).toISOString();
}

/** A time in UTC as `<input type="datetime-local">` wants it, in a zone. */
export function toLocal(at: string, zone: string): string {
  const ms = Date.parse(at);
  return new Date(ms + offsetMs(ms, zone)).toISOString().slice(0, 19);
}
