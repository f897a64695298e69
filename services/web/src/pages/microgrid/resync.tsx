/** Repair of a microgrid that differs from its circuits: first what would change, then the change. */
import { Button } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { askAnew } from "../../api/ask_anew.ts";
import { type Command, command, told } from "../../api/client.ts";
import { Id } from "../../shown/shown.tsx";
import { Loading, ProblemPanel } from "../../states/states.tsx";
import { Dialog } from "../../states/dialog.tsx";
import { words } from "../../words.ts";

type Difference = Command["ResyncDocument"];

const resync = (depotId: string, dryRun: boolean) =>
  told(
    command.POST("/api/depot/{depot_id}/microgrid/resync", {
      params: { path: { depot_id: depotId }, query: { dry_run: dryRun } },
    }),
  );

export function Resync({ depotId }: { depotId: string }) {
  const client = useQueryClient();
  const [open, setOpen] = useState(false);
  const preview = useMutation({ mutationFn: () => resync(depotId, true) });
  const repair = useMutation({
    mutationFn: () => resync(depotId, false),
    onSuccess: () => {
      for (const kind of ["microgrid", "structure", "card", "bindings"]) void askAnew(client, [kind, depotId]);
    },
  });
  const begin = () => {
    repair.reset();
    setOpen(true);
    preview.mutate();
  };
  const fault = repair.error ?? preview.error;
  return (
    <>
      <Button variant="default" onClick={begin}>
        {words.microgrid.resync}
      </Button>
      {open ? <Dialog title={words.microgrid.preview} onClose={() => setOpen(false)} size="lg">
        <div className="stack" aria-live="polite">
          {fault ? <ProblemPanel of={fault} retry={begin} /> : null}
          {repair.data ? (
            <>
              <p className="banner good">{repair.data.changed ? words.microgrid.done : words.microgrid.doneNothing}</p>
              <Changes of={repair.data} />
            </>
          ) : preview.data && !fault ? (
            preview.data.changed ? (
              <Changes of={preview.data} />
            ) : (
              <p>{words.microgrid.nothing}</p>
            )
          ) : null}
          {preview.isPending ? <Loading lines={2} /> : null}
          <div className="row">
            {preview.data?.changed && !repair.data ? (
              <Button onClick={() => repair.mutate()} loading={repair.isPending}>
                {words.microgrid.apply}
              </Button>
            ) : null}
            <Button variant="default" onClick={() => setOpen(false)}>
              {repair.data || preview.data?.changed === false ? words.close : words.cancel}
            </Button>
          </div>
        </div>
      </Dialog> : null}
    </>
  );
}

function Changes({ of }: { of: Difference }) {
  const { microgrid } = words;
  const rows: [string, string, string, string?][] = [
    ...of.added.map((one): [string, string, string] => [microgrid.added, one.name, one.source_circuit_id]),
    ...of.removed.map((one): [string, string, string] => [microgrid.removed, one.name, one.source_circuit_id]),
    ...of.renamed.map((one): [string, string, string, string] => [microgrid.renamed, one.name, one.source_circuit_id, microgrid.was(one.old_name)]),
    ...of.reordered.map((one): [string, string, string, string] => [microgrid.reordered, one.name, one.source_circuit_id, String(one.position)]),
    ...of.corrected.map((one): [string, string, string] => [microgrid.corrected, one, ""]),
    ...of.unbound.map((one): [string, string, string] => [microgrid.unbound, words.capability[one.capability] ?? one.capability, one.device_id]),
  ];
  return (
    <ul className="stack tight" data-changes>
      {rows.map(([change, name, id, note]) => (
        <li key={`${change} ${id} ${name}`}>
          <strong>{change}</strong>: {name} {id ? <Id>{id}</Id> : null} {note ? <span className="dim">({note})</span> : null}
        </li>
      ))}
    </ul>
  );
}
