/** One dead letter: what came, byte for byte, why it was refused, and what happened to it since. */
import { useQuery } from "@tanstack/react-query";
import { type Read, read, told } from "../../api/client.ts";
import { bytesText } from "../../shown/number.ts";
import { Id, Mark, Moment } from "../../shown/shown.tsx";
import { Answered } from "../../states/states.tsx";
import { words } from "../../words.ts";
import { Handling } from "./handling.tsx";

const w = words.deadLetters;
type Letter = Read["DeadLetterDocument"];

export function StatusOf({ status }: { status: string }) {
  return <Mark tone={status === "PENDING" ? "warn" : status === "REPLAYED" ? "good" : ""}>{w.statuses[status] ?? status}</Mark>;
}

export function LetterPage({ id }: { id: string }) {
  const letter = useQuery({
    queryKey: ["letter", id],
    queryFn: () => told(read.GET("/api/dead-letter/{dead_letter_id}", { params: { path: { dead_letter_id: id } } })),
  });
  return <Answered of={letter}>{(data) => <Letter of={data} />}</Answered>;
}

function Letter({ of }: { of: Letter }) {
  return (
    <>
      <section className="panel stack" data-letter={of.dead_letter_id}>
        <div className="row apart">
          <h2 className="row">
            <Id>{of.reason_code}</Id>
            <StatusOf status={of.status} />
          </h2>
          <Handling scope={{ dead_letter_ids: [of.dead_letter_id] }} what={w.scopeAll(1)} none={of.status !== "PENDING"} />
        </div>
        <p>{of.detail}</p>
        <Facts of={of} />
      </section>
      <div className="letter">
        <section className="panel stack tight" aria-labelledby="body">
          <div className="row apart">
            <h2 id="body">{w.body}</h2>
            <span className="small dim">
              {of.body_truncated ? w.truncated(bytesText(64 * 1024), bytesText(of.body_length)) : bytesText(of.body_length)}
              {of.body_encoding === "hex" ? `, ${w.hex}` : ""}
            </span>
          </div>
          <pre data-body={of.body_encoding}>{of.body}</pre>
        </section>
        <div className="stack">
          <section className="panel stack tight" aria-labelledby="history">
            <h2 id="history">{w.history}</h2>
            <ol className="stack tight" style={{ margin: 0, paddingLeft: "1.25rem" }}>
              {historyOf(of).map((one) => (
                <li key={`${one.at} ${one.what}`}>
                  <Moment at={one.at} /> <span>{one.what}</span>
                </li>
              ))}
            </ol>
          </section>
          <section className="panel stack tight" aria-labelledby="headers">
            <h2 id="headers">{w.headers}</h2>
            {Object.keys(of.headers).length ? (
              <dl className="facts small">
                {Object.entries(of.headers).map(([name, value]) => (
                  <div key={name} style={{ display: "contents" }}>
                    <dt>
                      <Id>{name}</Id>
                    </dt>
                    <dd>
                      <Id>{value}</Id>
                    </dd>
                  </div>
                ))}
              </dl>
            ) : (
              <p className="dim">{w.noHeaders}</p>
            )}
          </section>
          {of.failed_actions.length ? (
            <section className="panel stack tight" aria-labelledby="failed">
              <h2 id="failed">{w.failed}</h2>
              <ul className="stack tight" style={{ margin: 0, paddingLeft: "1.25rem" }}>
                {of.failed_actions.map((one) => (
                  <li key={JSON.stringify(one)}>
                    {Object.values(one)
                      .filter((value) => typeof value === "string")
                      .map((value) => (
                        <span key={String(value)}>
                          <Id>{String(value)}</Id>{" "}
                        </span>
                      ))}
                  </li>
                ))}
              </ul>
            </section>
          ) : null}
        </div>
      </div>
    </>
  );
}

function historyOf(of: Letter): { at: string; what: string }[] {
  return [
    { at: of.received_at, what: w.received },
    { at: of.first_failed_at, what: w.firstFailed },
    ...(of.attempts > 1 ? [{ at: of.last_failed_at, what: w.lastFailed(of.attempts) }] : []),
    ...(of.replayed_at
      ? [{ at: of.replayed_at, what: of.status === "DISCARDED" ? w.statuses.DISCARDED ?? "" : w.replayed(of.replayed_by ?? words.unknown) }]
      : []),
  ];
}

function Facts({ of }: { of: Letter }) {
  const facts: [string, string | null][] = [
    [w.stage, of.stage],
    [w.depot, of.depot_id],
    [w.gateway, of.gateway_id],
    [w.device, of.device_id],
    [w.source, of.source],
    [w.topic, of.topic],
    [w.key, of.key],
    [w.position, of.partition === null ? null : `${of.partition} / ${of.offset}`],
    [w.trace, of.trace_id],
    [w.attempts, String(of.attempts)],
  ];
  return (
    <dl className="facts-wide small">
      {facts.map(([name, value]) =>
        value === null ? null : (
          <div key={name}>
            <dt>{name}</dt>
            <dd>
              <Id>{value}</Id>
            </dd>
          </div>
        ),
      )}
    </dl>
  );
}
