/** A depot at this moment: what its microgrid is told to do, what its sources do, what its circuits may draw. */
import { Link, useParams } from "@tanstack/react-router";
import { lazy, Suspense, useEffect, useRef, useState } from "react";
import type { Read } from "../../api/client.ts";
import { useCard, useDepotLive } from "../../live/depot_live.tsx";
import { WarnMark } from "../../shown/shown.tsx";
import { Answered, Empty, Loading } from "../../states/states.tsx";
import { words } from "../../words.ts";
import { CapabilityPanel } from "./capabilities.tsx";
import { Circuits } from "./circuits.tsx";
import "./load.css";
import { PowerSources } from "./power_sources.tsx";

const FLAG = "new-microgrid-fields-load-chart";
const FILLED = "depotgrid:card-filled";
const BETWEEN_WORDS_MS = 3_000;
const LoadChart = lazy(() => import("./load_chart.tsx"));

export function LoadPage() {
  const { depotId } = useParams({ strict: false }) as { depotId: string };
  const card = useCard(depotId);
  return <Answered of={card}>{(data) => <Filled {...data} />}</Answered>;
}

function Filled({ card, answeredAt }: { card: Read["Card"]; answeredAt: number }) {
  const { depot } = useDepotLive();
  const params = { depotId: depot.depot_id };
  useEffect(() => {
    if (!performance.getEntriesByName(FILLED).length) performance.mark(FILLED);
  }, []);
  return (
    <div className="load">
      <div className="stack load-main">
        <Spoken capabilities={card.capabilities} />
        {card.remediation_count || card.dead_letter_count ? (
          <div className="row">
            {card.remediation_count ? (
              <Link to="/depot/$depotId/attention" params={params}>
                <WarnMark>{words.load.openQuestions(card.remediation_count)}</WarnMark>
              </Link>
            ) : null}
            {card.dead_letter_count ? (
              <Link to="/depot/$depotId/dead-letters" params={params}>
                <WarnMark>{words.depots.letters(card.dead_letter_count)}</WarnMark>
              </Link>
            ) : null}
          </div>
        ) : null}
        {card.feature_flags[FLAG] ? <Microgrid capabilities={card.capabilities} answeredAt={answeredAt} /> : null}
        <PowerSources sources={card.power_sources} answeredAt={answeredAt} />
      </div>
      <div className="stack load-side">
        <Circuits circuits={card.circuits} />
        <section className="panel stack" aria-labelledby="chart">
          <Suspense fallback={<Loading lines={2} />}>
            <LoadChart depotId={depot.depot_id} withCapabilities={card.feature_flags[FLAG] === true} />
          </Suspense>
        </section>
      </div>
    </div>
  );
}

function Microgrid({ capabilities, answeredAt }: { capabilities: Read["CapabilityEntry"][]; answeredAt: number }) {
  return (
    <section className="stack tight" aria-labelledby="card" data-card>
      <h2 id="card">{words.load.card}</h2>
      {capabilities.length ? (
        <div className="tiles">
          {capabilities.map((one) => (
            <CapabilityPanel key={`${one.scope.node_id} ${one.capability}`} of={one} answeredAt={answeredAt} />
          ))}
        </div>
      ) : (
        <div className="panel">
          <Empty title={words.load.noCapabilities}>{words.load.noCapabilitiesDo}</Empty>
        </div>
      )}
    </section>
  );
}

type Statuses = Map<string, Read["CapabilityEntry"]>;
const statusesOf = (capabilities: Read["CapabilityEntry"][]): Statuses =>
  new Map(capabilities.map((one) => [`${one.scope.node_id} ${one.capability}`, one]));

/** What is ON or OFF now and was something else; what is new or has no status is not worth a word. */
function changesOf(before: Statuses, after: Statuses): string[] {
  return [...after].flatMap(([key, one]) => {
    const old = before.get(key);
    if (old === undefined || old.operational_status === one.operational_status || one.operational_status === null) return [];
    return [words.load.changed(words.capability[one.capability] ?? one.capability, one.operational_status)];
  });
}

/**
 * Tells a listener, politely, what turned ON or OFF; ages and values would never let them rest. What turns again soon after is told with
 * the next word, as it is by then, and not at all when it has turned back.
 */
function Spoken({ capabilities }: { capabilities: Read["CapabilityEntry"][] }) {
  const told = useRef<Statuses | null>(null);
  const newest = useRef<Statuses>(new Map());
  const resting = useRef<ReturnType<typeof setTimeout> | null>(null);
  const [said, setSaid] = useState("");
  useEffect(() => {
    newest.current = statusesOf(capabilities);
    const tell = () => {
      resting.current = null;
      const changes = changesOf(told.current ?? newest.current, newest.current);
      told.current = newest.current;
      if (!changes.length) return;
      setSaid(changes.join(". "));
      resting.current = setTimeout(tell, BETWEEN_WORDS_MS);
    };
    if (resting.current === null) tell();
  }, [capabilities]);
  useEffect(
    () => () => {
      if (resting.current !== null) clearTimeout(resting.current);
      resting.current = null;
    },
    [],
  );
  return (
    <div className="hidden" aria-live="polite" role="status">
      {said}
    </div>
  );
}
