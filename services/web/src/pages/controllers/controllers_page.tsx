/** Which device owns which capability of the depot, and how that is changed. */
import { Button } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import { askAnew } from "../../api/ask_anew.ts";
import { command, read, told } from "../../api/client.ts";
import { Once } from "../../api/once.ts";
import { ApiProblem } from "../../api/problem.ts";
import { useDepotLive } from "../../live/depot_live.tsx";
import { FoldingTable } from "../../shown/folding_table.tsx";
import { FreshnessMark, Id, Moment } from "../../shown/shown.tsx";
import { spanText } from "../../shown/time.ts";
import { Answered, Empty, ProblemPanel } from "../../states/states.tsx";
import { Dialog } from "../../states/dialog.tsx";
import { words } from "../../words.ts";
import { EnabledMark, devicesQuery } from "../devices/devices_page.tsx";
import { everyPage } from "../devices/every_page.ts";
import { asSeen, type Binding, currentOf, newOwnerOf, ownerOf } from "./binding.ts";
import { BindingForm, type FormChoices } from "./binding_form.tsx";

const w = words.controllers;
const REFRESH_MS = 10_000;
type Doing = { what: "edit" | "remove" | "take-over"; of: Binding } | { what: "create" } | null;

export function ControllersPage() {
  const { depot } = useDepotLive();
  const client = useQueryClient();
  const [doing, setDoing] = useState<Doing>(null);
  const path = { depot_id: depot.depot_id };
  const bindings = useQuery({
    queryKey: ["bindings", depot.depot_id],
    queryFn: () =>
      everyPage((cursor) =>
        told(
          read.GET("/api/depot/{depot_id}/controller-binding", {
            params: { path, query: { limit: 500, ...(cursor ? { cursor } : {}) } },
          }),
        ),
      ),
    refetchInterval: REFRESH_MS,
  });
  const choices = useChoices(depot.depot_id);
  const done = () => {
    setDoing(null);
    for (const kind of ["bindings", "devices", "card"]) void askAnew(client, [kind, depot.depot_id]);
    void askAnew(client, ["actions"]);
  };
  if (depot.microgrid_id === null) return <ProblemPanel of={new ApiProblem(404, "MICROGRID_NOT_FOUND", "")} />;
  const absent = bindings.error instanceof ApiProblem && bindings.error.code === "NOT_FOUND";
  return (
    <>
      <div className="row apart">
        <p className="dim">{w.lead}</p>
        <Button onClick={() => setDoing({ what: "create" })} disabled={!bindings.data}>
          {w.create}
        </Button>
      </div>
      {absent ? (
        <section className="panel">
          <Empty title={w.notHere} />
        </section>
      ) : (
        <Answered of={bindings}>
          {(items) =>
            items.length ? (
              <div className="tiles wide">
                {items.map((one) => (
                  <Bound key={one.controller_binding_id} of={one} all={items} nodes={choices.nodes} onDo={setDoing} onDone={done} />
                ))}
              </div>
            ) : (
              <section className="panel">
                <Empty title={w.empty}>{w.emptyDo}</Empty>
              </section>
            )
          }
        </Answered>
      )}
      {doing?.what === "create" || doing?.what === "edit" ? (
        <BindingForm
          depotId={depot.depot_id}
          of={doing.what === "edit" ? doing.of : null}
          choices={choices}
          onClose={() => setDoing(null)}
          onStored={done}
        />
      ) : null}
      {doing?.what === "take-over" && bindings.data ? (
        <TakeOver of={doing.of} all={bindings.data} onClose={() => setDoing(null)} onDone={done} />
      ) : null}
      {doing?.what === "remove" ? <Remove of={doing.of} onClose={() => setDoing(null)} onDone={done} /> : null}
    </>
  );
}

function useChoices(depotId: string): FormChoices {
  const devices = useQuery(devicesQuery(depotId)).data;
  const microgrid = useQuery({
    queryKey: ["microgrid", depotId],
    queryFn: () => told(read.GET("/api/depot/{depot_id}/microgrid", { params: { path: { depot_id: depotId } } })),
  }).data;
  return {
    devices: devices?.devices.map((one) => one.device_id) ?? [],
    nodes: microgrid?.nodes ?? [],
    measurands: (deviceId) => [
      ...new Set(devices?.actions.filter((one) => one.device_id === deviceId).map((one) => one.measurand) ?? []),
    ],
  };
}

function Bound({
  of,
  all,
  nodes,
  onDo,
  onDone,
}: {
  of: Binding;
  all: Binding[];
  nodes: FormChoices["nodes"];
  onDo: (doing: Doing) => void;
  onDone: () => void;
}) {
  const owner = of.enabled ? null : ownerOf(all, of);
  const turn = useMutation({
    mutationFn: (enabled: boolean) => turned(of, enabled),
    // Also after a refusal: where somebody was faster, the next try is about the binding as it is by then.
    onSettled: onDone,
  });
  return (
    <article className="panel stack tight" data-binding={of.device_id} aria-label={of.device_id}>
      <div className="row apart">
        <h2>
          <Link to="/depot/$depotId/devices/$deviceId" params={{ depotId: of.depot_id, deviceId: of.device_id }}>
            {of.device_id}
          </Link>
        </h2>
        <EnabledMark enabled={of.enabled} />
      </div>
      <dl className="facts-wide small">
        <div>
          <dt>{w.scope}</dt>
          <dd>{of.node_id === null ? words.wholeSite : (nodes.find((one) => one.node_id === of.node_id)?.name ?? of.node_id)}</dd>
        </div>
        <div>
          <dt>{words.load.staleAfter}</dt>
          <dd data-stale-after={of.stale_after_s}>{spanText(of.stale_after_s)}</dd>
        </div>
        <div>
          <dt>{w.version}</dt>
          <dd data-binding-version>{of.version}</dd>
        </div>
        <div>
          <dt>{w.supported}</dt>
          <dd>{of.supported_capabilities.map((one) => words.capability[one] ?? one).join(", ") || words.none}</dd>
        </div>
      </dl>
      <FoldingTable
        rows={of.capabilities}
        keyOf={(one) => one.control_point_id}
        columns={[
          { heading: w.capabilities, cell: (one) => words.capability[one.capability] ?? one.capability },
          { heading: words.load.measurand, cell: (one) => <Id>{one.measurand}</Id> },
          { heading: words.depots.columns.freshness, cell: (one) => <FreshnessMark freshness={one.freshness} /> },
          { heading: w.lastReport, cell: (one) => <Moment at={one.last_reported_at} />, small: true },
        ]}
      />
      {turn.error ? <ProblemPanel of={turn.error} retry={() => turn.mutate(turn.variables)} /> : null}
      <div className="row">
        <Button size="xs" variant="default" onClick={() => onDo({ what: "edit", of })}>
          {w.edit}
        </Button>
        {owner ? (
          <Button size="xs" onClick={() => onDo({ what: "take-over", of })}>
            {w.takeOver}
          </Button>
        ) : (
          <Button size="xs" variant="default" onClick={() => turn.mutate(!of.enabled)} loading={turn.isPending}>
            {of.enabled ? w.disable : w.enable}
          </Button>
        )}
        <Button size="xs" variant="default" onClick={() => onDo({ what: "remove", of })}>
          {w.remove}
        </Button>
      </div>
    </article>
  );
}

function Confirmed({
  title,
  why,
  action,
  danger,
  fault,
  busy,
  onDo,
  onClose,
}: {
  title: string;
  why: string;
  action: string;
  danger?: boolean;
  fault: unknown;
  busy: boolean;
  onDo: () => void;
  onClose: () => void;
}) {
  return (
    <Dialog title={title} onClose={onClose}>
      <div className="stack">
        <p>{why}</p>
        {fault ? <ProblemPanel of={fault} /> : null}
        <div className="row">
          <Button color={danger ? "red" : "blue"} onClick={onDo} loading={busy}>
            {action}
          </Button>
          <Button variant="default" onClick={onClose}>
            {words.cancel}
          </Button>
        </div>
      </div>
    </Dialog>
  );
}

function TakeOver({ of, all, onClose, onDone }: { of: Binding; all: Binding[]; onClose: () => void; onDone: () => void }) {
  const [owner, setOwner] = useState(() => ownerOf(all, of)?.device_id ?? "");
  const [once] = useState(() => new Once());
  const take = useMutation({
    mutationFn: () => {
      const { path } = asSeen(of);
      const body = { expected_device_id: owner };
      const post = (header: { "Idempotency-Key": string }) =>
        told(command.POST("/api/controller-binding/{controller_binding_id}/take-over", { params: { path, header }, body }));
      return once.send([path, body], post);
    },
    onSuccess: onDone,
    // The owner is another one by now: the dialog says so, and the next try is about that one.
    onError: (fault) => setOwner(newOwnerOf(fault) ?? owner),
  });
  const what = of.capabilities.map((one) => words.capability[one.capability] ?? one.capability).join(", ");
  return (
    <Confirmed
      title={w.takeOver}
      why={w.takeOverWhy(owner, of.device_id, what)}
      action={w.takeOver}
      fault={take.error}
      busy={take.isPending}
      onDo={() => take.mutate()}
      onClose={onClose}
    />
  );
}

function Remove({ of, onClose, onDone }: { of: Binding; onClose: () => void; onDone: () => void }) {
  const [seen, setSeen] = useState(of);
  const remove = useMutation({
    mutationFn: () => deleted(seen),
    onSuccess: onDone,
    onError: (fault) => setSeen(currentOf(fault) ?? seen),
  });
  return (
    <Confirmed
      title={`${w.remove}: ${of.device_id}`}
      why={w.removeWhy(of.device_id)}
      action={w.remove}
      danger
      fault={remove.error}
      busy={remove.isPending}
      onDo={() => remove.mutate()}
      onClose={onClose}
    />
  );
}

/** Enables or disables a binding as it was seen; one that stands so already, as by a try whose answer never came, is as it was to be. */
async function turned(seen: Binding, enabled: boolean): Promise<Binding> {
  try {
    return await told(command.PATCH("/api/controller-binding/{controller_binding_id}", { params: asSeen(seen), body: { enabled } }));
  } catch (fault) {
    const current = currentOf(fault);
    if (current?.enabled === enabled) return current;
    throw fault;
  }
}

/** Deletes a binding as it was seen; one that is gone already, as by a try whose answer never came, is as it was to be. */
async function deleted(seen: Binding): Promise<void> {
  try {
    await told(command.DELETE("/api/controller-binding/{controller_binding_id}", { params: asSeen(seen) }));
  } catch (fault) {
    if (!(fault instanceof ApiProblem && fault.status === 404)) throw fault;
  }
}
