/** The microgrid from grid connections down to connectors, its version, and its repair. */
import { Button, SegmentedControl } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { lazy, Suspense, useMemo, useState } from "react";
import { askAnew } from "../../api/ask_anew.ts";
import { command, type Read, read, told } from "../../api/client.ts";
import { ApiProblem } from "../../api/problem.ts";
import { useDepotLive } from "../../live/depot_live.tsx";
import { Battery, Bolt, Gear, Pylon, Sun } from "../../look/icons.tsx";
import { Id, Mark, Moment } from "../../shown/shown.tsx";
import { Answered, Empty, Loading, ProblemPanel } from "../../states/states.tsx";
import { words } from "../../words.ts";
import { factsOf, nameOf } from "./facts.ts";
import "./microgrid.css";
import { Resync } from "./resync.tsx";
import { type StructureNode, trees } from "./structure.ts";

const Diagram = lazy(() => import("./diagram.tsx"));

export function MicrogridPage() {
  const { depot } = useDepotLive();
  const path = { depot_id: depot.depot_id };
  const microgrid = useQuery({
    queryKey: ["microgrid", depot.depot_id],
    queryFn: () => told(read.GET("/api/depot/{depot_id}/microgrid", { params: { path } })),
  });
  const structure = useQuery({
    queryKey: ["structure", depot.depot_id],
    queryFn: () => told(read.GET("/api/depot/{depot_id}/microgrid/structure", { params: { path } })),
  });
  // Here, so that what became of a try stays while the page asks anew whether there is a microgrid.
  const provision = useProvision(depot.depot_id);
  if (microgrid.error instanceof ApiProblem && microgrid.error.code === "MICROGRID_NOT_FOUND")
    return <Provision of={provision} fault={microgrid.error} />;
  return (
    <>
      <Answered of={microgrid} lines={1}>
        {(data) => <Identity of={data} />}
      </Answered>
      <Answered of={structure}>{(data) => <Shape of={data} />}</Answered>
    </>
  );
}

function Identity({ of }: { of: Read["MicrogridDocument"] }) {
  const { microgrid } = words;
  return (
    <section className="panel row apart" aria-label={microgrid.title}>
      <dl className="facts-wide">
        <div>
          <dt>{microgrid.status}</dt>
          <dd>
            <Mark tone={of.status === "ACTIVE" ? "good" : "warn"}>{microgrid.statuses[of.status] ?? of.status}</Mark>
          </dd>
        </div>
        <div>
          <dt>{microgrid.version}</dt>
          <dd data-version>{of.version}</dd>
        </div>
        <div>
          <dt>{microgrid.lastSync}</dt>
          <dd>
            <Moment at={of.updated_at} />
          </dd>
        </div>
        <div>
          <dt>{microgrid.id}</dt>
          <dd>
            <Id>{of.microgrid_id}</Id>
          </dd>
        </div>
      </dl>
      <div className="stack tight">
        <Resync depotId={of.depot_id} />
      </div>
    </section>
  );
}

function Shape({ of }: { of: Read["Structure"] }) {
  const [view, setView] = useState("tree");
  const roots = useMemo(() => trees(of), [of]);
  const [opened, setOpened] = useState<{ all: boolean; times: number }>({ all: false, times: 0 });
  const { microgrid } = words;
  if (!roots.length)
    return (
      <section className="panel">
        <Empty title={microgrid.empty}>{microgrid.emptyDo}</Empty>
      </section>
    );
  return (
    <section className="panel stack" aria-labelledby="structure">
      <div className="row apart">
        <h2 id="structure">{microgrid.connections}</h2>
        <div className="row">
          {view === "tree" ? (
            <Button variant="default" size="xs" onClick={() => setOpened({ all: !opened.all, times: opened.times + 1 })}>
              {opened.all ? microgrid.collapseAll : microgrid.expandAll}
            </Button>
          ) : null}
          <SegmentedControl
            aria-label={microgrid.view}
            size="xs"
            value={view}
            onChange={setView}
            data={[
              { value: "tree", label: microgrid.tree },
              { value: "diagram", label: microgrid.diagram },
            ]}
          />
        </div>
      </div>
      {view === "tree" ? (
        <ul className="tree" key={opened.times}>
          {roots.map((one) => (
            <Branch key={one.key} of={one} depth={0} all={opened.times ? opened.all : null} />
          ))}
        </ul>
      ) : (
        <Suspense fallback={<Loading lines={3} />}>
          <Diagram roots={roots} />
        </Suspense>
      )}
    </section>
  );
}

const ICONS: Record<string, React.ReactNode> = {
  connection: <Pylon size={18} />,
  circuit: <Bolt size={16} />,
  charge_point: <Gear size={16} />,
  GRID: <Pylon size={16} />,
  BATTERY: <Battery size={16} />,
  SOLAR: <Sun size={16} />,
};

const iconOf = (node: StructureNode) =>
  ICONS[node.kind === "power_source" ? String(node.facts.find((one) => one.fact === "kind")?.value) : node.kind] ?? null;

function Branch({ of, depth, all }: { of: StructureNode; depth: number; all: boolean | null }) {
  const said = (
    <>
      {iconOf(of)}
      <span className={depth ? "" : "tree-root"}>{nameOf(of)}</span>
      {of.id === null ? null : <Id>{of.id}</Id>}
      <span className="small dim">{factsOf(of)}</span>
    </>
  );
  if (!of.children.length)
    return (
      <li>
        <div className="tree-leaf">{said}</div>
      </li>
    );
  return (
    <li>
      <details open={all ?? depth < 1}>
        <summary>{said}</summary>
        <ul>
          {of.children.map((one) => (
            <Branch key={one.key} of={one} depth={depth + 1} all={all} />
          ))}
        </ul>
      </details>
    </li>
  );
}

function useProvision(depotId: string) {
  const client = useQueryClient();
  return useMutation({
    mutationFn: () => told(command.POST("/api/depot/{depot_id}/microgrid", { params: { path: { depot_id: depotId } } })),
    onSuccess: () => {
      for (const kind of ["depot", "microgrid", "structure", "card"]) void askAnew(client, [kind, depotId]);
    },
  });
}

function Provision({ of, fault }: { of: ReturnType<typeof useProvision>; fault: ApiProblem }) {
  return (
    <>
      <ProblemPanel of={of.error ?? fault} />
      <div>
        <Button onClick={() => of.mutate()} loading={of.isPending}>
          {words.microgrid.provision}
        </Button>
      </div>
    </>
  );
}
