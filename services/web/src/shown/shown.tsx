/** How the same thing looks on every page: a time, an age, a freshness, a status, a number, an id. */
import { createContext, type ReactNode, useContext, useSyncExternalStore } from "react";
import { Check, Clock, Cross, Off, On, Question, Warning } from "../look/icons.tsx";
import { words } from "../words.ts";
import { type Aged, ageNow, freshnessNow } from "./freshness.ts";
import { useNow } from "./now.ts";
import { numberText } from "./number.ts";
import { spanText, utcText, zonedText } from "./time.ts";

/** The zone of the depot that the page is about. */
export const Zone = createContext("UTC");

const UTC_KEY = "depotgrid-utc";
const utcWatchers = new Set<() => void>();
let inUtc = localStorage.getItem(UTC_KEY) === "yes";

/** Whether the person wants to see all times in UTC. */
export function useUtc(): boolean {
  return useSyncExternalStore(
    (watcher) => {
      utcWatchers.add(watcher);
      return () => utcWatchers.delete(watcher);
    },
    () => inUtc,
  );
}

export function setUtc(wanted: boolean): void {
  inUtc = wanted;
  localStorage.setItem(UTC_KEY, wanted ? "yes" : "no");
  for (const watcher of utcWatchers) watcher();
}

export function Moment({ at }: { at: string | null | undefined }) {
  const zone = useContext(Zone);
  const utc = useUtc();
  if (!at) return <span className="dim">{words.unknown}</span>;
  return (
    <time dateTime={at} title={utcText(at)}>
      {utc ? utcText(at) : zonedText(at, zone)}
    </time>
  );
}

export function Mark({
  tone,
  icon,
  children,
  title,
}: {
  tone?: string;
  icon?: ReactNode;
  children: ReactNode;
  title?: string;
}) {
  return (
    <span className={`mark ${tone ?? ""}`} title={title}>
      {icon}
      {children}
    </span>
  );
}

const FRESHNESS = {
  FRESH: { tone: "good", icon: <Check size={14} /> },
  STALE: { tone: "warn", icon: <Clock size={14} /> },
  NEVER_REPORTED: { tone: "never", icon: <Question size={14} /> },
} as Record<string, { tone: string; icon: ReactNode }>;

export function FreshnessMark({ freshness }: { freshness: string }) {
  const look = FRESHNESS[freshness];
  return (
    <Mark tone={look?.tone} icon={look?.icon} title={words.freshnessLong[freshness]}>
      <span data-freshness={freshness}>{words.freshness[freshness] ?? freshness}</span>
    </Mark>
  );
}

/** Freshness and age of something, counting on from the answer that told it. */
export function Fresh({ of, answeredAt }: { of: Aged; answeredAt: number }) {
  const freshness = useNow((now) => freshnessNow(of, answeredAt, now));
  return (
    <span className="row">
      <FreshnessMark freshness={freshness} />
      <Age of={of} answeredAt={answeredAt} />
    </span>
  );
}

export function Age({ of, answeredAt }: { of: Pick<Aged, "age_s">; answeredAt: number }) {
  const text = useNow((now) => {
    const age = ageNow(of, answeredAt, now);
    return age === null ? null : spanText(age);
  });
  return text === null ? null : (
    <span className="small dim" data-age>
      {words.old(text)}
    </span>
  );
}

export function StatusMark({ status }: { status: string | null }) {
  if (status === "ON")
    return (
      <Mark tone="good" icon={<On size={14} />}>
        {words.status.ON}
      </Mark>
    );
  if (status === "OFF") return <Mark icon={<Off size={14} />}>{words.status.OFF}</Mark>;
  return <Mark icon={<Question size={14} />}>{status ?? words.status.unknown}</Mark>;
}

/** A number with its unit; a dash in words where it is not known. */
export function Amount({ value, unit, missing }: { value: number | null | undefined; unit: string; missing?: string }) {
  if (value === null || value === undefined) return <span className="dim">{missing ?? words.unknown}</span>;
  return (
    <span data-value={value}>
      {numberText(value)} {unit}
    </span>
  );
}

export const Id = ({ children }: { children: ReactNode }) => <span className="id">{children}</span>;

export function OutcomeMark({ outcome }: { outcome: string }) {
  const good = outcome === "APPLIED" || outcome === "RECORDED" || outcome === "DUPLICATE" || outcome === "IGNORED";
  return (
    <Mark
      tone={outcome === "APPLIED" ? "good" : good ? "" : "bad"}
      icon={good ? <Check size={14} /> : <Cross size={14} />}
    >
      {outcome}
    </Mark>
  );
}

export function WarnMark({ children }: { children: ReactNode }) {
  return (
    <Mark tone="warn" icon={<Warning size={14} />}>
      {children}
    </Mark>
  );
}
