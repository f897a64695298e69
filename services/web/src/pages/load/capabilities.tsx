/** One capability of the microgrid: ON or OFF, from whom, where, how old; and why the page says so. */
import type { Read } from "../../api/client.ts";
import { Off, On, Question } from "../../look/icons.tsx";
import { freshnessNow } from "../../shown/freshness.ts";
import { useNow } from "../../shown/now.ts";
import { valueText } from "../../shown/number.ts";
import { Fresh, Id, Moment } from "../../shown/shown.tsx";
import { spanText } from "../../shown/time.ts";
import { words } from "../../words.ts";

export function CapabilityPanel({ of, answeredAt }: { of: Read["CapabilityEntry"]; answeredAt: number }) {
  const freshness = useNow((now) => freshnessNow(of, answeredAt, now));
  const status = of.operational_status;
  return (
    <article
      className="panel stack capability"
      data-capability={of.capability}
      data-scope={of.scope.node_id ?? ""}
      data-freshness-now={freshness}
      aria-label={words.capabilityLong[of.capability] ?? of.capability}
    >
      <div className="row apart">
        <h3>{words.capabilityLong[of.capability] ?? of.capability}</h3>
        {of.scope.node_id === null ? null : (
          <span className="small">
            <span className="dim">{words.load.scope}:</span> {of.scope.name}
          </span>
        )}
      </div>
      <div className={`status ${freshness === "STALE" ? "old" : ""} ${status === "ON" ? "on" : ""}`}>
        {status === "ON" ? <On size={30} /> : status === "OFF" ? <Off size={30} /> : <Question size={30} />}
        <span data-status>
          {status === null ? words.status.unknown : (words.status[status as "ON" | "OFF"] ?? status)}
        </span>
      </div>
      <Fresh of={of} answeredAt={answeredAt} />
      <dl className="facts small">
        <dt>{words.load.source}</dt>
        <dd data-source>
          {of.source?.device_id ? <Id>{of.source.device_id}</Id> : <span className="dim">{words.load.noSource}</span>}
        </dd>
        {of.observed_at ? (
          <>
            <dt>{words.load.observed}</dt>
            <dd>
              <Moment at={of.observed_at} />
            </dd>
          </>
        ) : null}
        <dt>{words.load.staleAfter}</dt>
        <dd>{spanText(of.stale_after_s)}</dd>
      </dl>
      {of.event_id ? <Why of={of} /> : null}
    </article>
  );
}

function Why({ of }: { of: Read["CapabilityEntry"] }) {
  const { detail } = of;
  return (
    <details className="small">
      <summary>{words.load.why}</summary>
      <dl className="facts">
        <dt>{words.load.measurand}</dt>
        <dd>
          <Id>{detail.measurand ?? words.unknown}</Id>
        </dd>
        <dt>{words.load.rawValue}</dt>
        <dd>
          {valueText(detail.raw_value) ?? words.unknown} {detail.raw_unit}
        </dd>
        <dt>{words.load.quality}</dt>
        <dd>{detail.quality ?? words.unknown}</dd>
        <dt>{words.load.rule}</dt>
        <dd>
          <Id>{detail.rule ?? words.unknown}</Id>
        </dd>
        <dt>{words.load.bound}</dt>
        <dd>{detail.bound ? words.yes : words.no}</dd>
        <dt>{words.load.event}</dt>
        <dd>
          <Id>{of.event_id}</Id>
        </dd>
      </dl>
    </details>
  );
}
