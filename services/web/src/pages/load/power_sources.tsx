/** What each power source does: power with its direction in words, state, and a battery's charge. */
import type { ReactNode } from "react";
import type { Read } from "../../api/client.ts";
import { Battery, Gear, Left, Pylon, Right, Sun } from "../../look/icons.tsx";
import { Amount, Fresh, Mark } from "../../shown/shown.tsx";
import { Empty } from "../../states/states.tsx";
import { words } from "../../words.ts";

const ICONS: Record<string, ReactNode> = {
  GRID: <Pylon size={20} />,
  BATTERY: <Battery size={20} />,
  SOLAR: <Sun size={20} />,
  GENERATOR: <Gear size={20} />,
};

export function PowerSources({ sources, answeredAt }: { sources: Read["PowerSourceEntry"][]; answeredAt: number }) {
  return (
    <section className="stack tight" aria-labelledby="sources">
      <h2 id="sources">{words.load.sources}</h2>
      {sources.length ? (
        <div className="tiles">
          {sources.map((one) => (
            <Source key={one.power_source_id} of={one} answeredAt={answeredAt} />
          ))}
        </div>
      ) : (
        <div className="panel">
          <Empty title={words.load.noSources}>{words.load.noSourcesDo}</Empty>
        </div>
      )}
    </section>
  );
}

function Source({ of, answeredAt }: { of: Read["PowerSourceEntry"]; answeredAt: number }) {
  return (
    <article className="panel stack tight" data-source-id={of.power_source_id} aria-label={of.name}>
      <div className="row apart">
        <h3 className="row">
          {ICONS[of.kind]}
          <span>{of.name}</span>
        </h3>
        <span className="small dim">{words.kind[of.kind] ?? of.kind}</span>
      </div>
      <div className="row apart">
        <span className="power" data-load={of.load_kw ?? ""}>
          <Amount value={of.load_kw} unit="kW" missing={words.load.noReading} />
        </span>
        <Flow kind={of.kind} kw={of.load_kw} />
      </div>
      <FlowBar kw={of.load_kw} ratedKw={of.rated_kw} />
      <dl className="facts-wide small">
        {of.kind === "BATTERY" ? (
          <div>
            <dt>{words.load.soc}</dt>
            <dd className="row">
              <span className="power-soc" data-soc={of.soc_pct ?? ""}>
                <Amount value={of.soc_pct} unit="%" missing={words.load.noReading} />
              </span>
              {of.soc_pct === null ? null : <meter min={0} max={100} value={of.soc_pct} aria-label={words.load.soc} />}
            </dd>
          </div>
        ) : null}
        <div>
          <dt>{words.load.state}</dt>
          <dd data-state={of.state ?? ""}>
            <State state={of.state} />
          </dd>
        </div>
        {of.rated_kw === null ? null : (
          <div>
            <dt>{words.load.rated}</dt>
            <dd>
              <Amount value={of.rated_kw} unit="kW" />
            </dd>
          </div>
        )}
      </dl>
      <Fresh of={of} answeredAt={answeredAt} />
    </article>
  );
}

function State({ state }: { state: string | null }) {
  if (state === null) return <span className="dim">{words.load.noReading}</span>;
  return <Mark tone={state === "ON" ? "good" : state === "FAULT" ? "bad" : ""}>{state}</Mark>;
}

/** The sign is the meter's: what a source takes is positive, what it gives is negative. */
function Flow({ kind, kw }: { kind: string; kw: number | null }) {
  if (kw === null) return null;
  const [takes, gives] = words.load.flow[kind] ?? ["+", "−"];
  if (kw === 0) return <Mark tone="plain">{words.load.flowNone}</Mark>;
  return (
    <Mark tone="plain" icon={kw > 0 ? <Right size={14} /> : <Left size={14} />}>
      {kw > 0 ? takes : gives}
    </Mark>
  );
}

/** A bar from the middle, its full length the rating; nothing where either number is missing. */
function FlowBar({ kw, ratedKw }: { kw: number | null; ratedKw: number | null }) {
  if (kw === null || !ratedKw) return <div className="flow" aria-hidden="true" />;
  const share = Math.min(1, Math.abs(kw) / ratedKw) * 50;
  return (
    <div className="flow" aria-hidden="true">
      <span className="flow-part" style={{ width: `${share}%`, left: kw < 0 ? `${50 - share}%` : "50%" }} />
    </div>
  );
}
