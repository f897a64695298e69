/** How much each circuit may draw, who says so, and whether its controller is alive. */
import type { Read } from "../../api/client.ts";
import { Check, Cross, Question } from "../../look/icons.tsx";
import { useNow } from "../../shown/now.ts";
import { withUnit } from "../../shown/number.ts";
import { Amount, Id, Mark, Moment } from "../../shown/shown.tsx";
import { spanText } from "../../shown/time.ts";
import { Empty } from "../../states/states.tsx";
import { words } from "../../words.ts";

export function Circuits({ circuits }: { circuits: Read["CircuitEntry"][] }) {
  return (
    <section className="panel stack tight" aria-labelledby="circuits">
      <h2 id="circuits">{words.load.circuits}</h2>
      {circuits.length ? (
        <table className="folds">
          <thead>
            <tr>
              <th scope="col">{words.load.circuit}</th>
              <th scope="col">{words.load.available}</th>
              <th scope="col">{words.load.from}</th>
              <th scope="col">{words.load.heartbeat}</th>
            </tr>
          </thead>
          <tbody>
            {circuits.map((one) => (
              <Circuit key={one.circuit_id} of={one} />
            ))}
          </tbody>
        </table>
      ) : (
        <Empty title={words.load.noCircuits}>{words.load.noCircuitsDo}</Empty>
      )}
    </section>
  );
}

function Circuit({ of }: { of: Read["CircuitEntry"] }) {
  const uncut = of.uncut_kw !== null && of.uncut_kw !== of.available_capacity_kw ? withUnit(of.uncut_kw, "kW") : null;
  return (
    <tr data-circuit={of.circuit_id}>
      <th scope="row">
        {of.name}
        <br />
        <Id>{of.circuit_id}</Id>
      </th>
      <td data-label={words.load.available}>
        <strong data-available={of.available_capacity_kw ?? ""}>
          <Amount value={of.available_capacity_kw} unit="kW" />
        </strong>
        <div className="small dim">
          {uncut === null ? null : <div>{words.load.cut(uncut)}</div>}
          {of.rating_kw === null ? null : (
            <div>
              {words.load.rating} <Amount value={of.rating_kw} unit="kW" />
            </div>
          )}
        </div>
      </td>
      <td data-label={words.load.from}>
        <Mark tone={of.source === "FAIL_SAFE" ? "warn" : ""} title={of.rule ?? undefined}>
          <span data-capacity-source={of.source}>{words.capacitySource[of.source] ?? of.source}</span>
        </Mark>
        {of.device?.device_id ? (
          <div className="small">
            <Id>{of.device.device_id}</Id>
          </div>
        ) : null}
        {of.observed_at ? (
          <div className="small dim">
            <Moment at={of.observed_at} />
          </div>
        ) : null}
      </td>
      <td data-label={words.load.heartbeat}>
        <Heartbeat of={of} />
      </td>
    </tr>
  );
}

const HEARTBEATS = {
  OK: { tone: "good", icon: <Check size={14} /> },
  LOST: { tone: "bad", icon: <Cross size={14} /> },
  NEVER_REPORTED: { tone: "", icon: <Question size={14} /> },
} as Record<string, { tone: string; icon: React.ReactNode }>;

function Heartbeat({ of }: { of: Read["CircuitEntry"] }) {
  const look = HEARTBEATS[of.heartbeat];
  const deadline = of.deadline_at === null ? null : Date.parse(of.deadline_at);
  const left = useNow((now) => (deadline === null ? null : Math.round((deadline - now) / 1000)));
  return (
    <>
      <Mark tone={look?.tone} icon={look?.icon}>
        <span data-heartbeat={of.heartbeat}>{words.heartbeat[of.heartbeat] ?? of.heartbeat}</span>
      </Mark>
      {left === null || of.heartbeat !== "OK" ? null : (
        <div className="small dim">
          {left >= 0 ? words.load.deadline(spanText(left)) : words.load.overdue(spanText(-left))}
        </div>
      )}
    </>
  );
}
