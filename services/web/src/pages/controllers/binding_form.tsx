/**
 * A binding as a form. What is typed stays through every refusal: faults stand at their fields, a conflict offers its way out, and when
 * somebody else was faster both states are shown, to choose from.
 */
import { Button, Checkbox, NativeSelect, TextInput } from "@mantine/core";
import { useMutation } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { command, told } from "../../api/client.ts";
import { Once } from "../../api/once.ts";
import { ApiProblem, faultsByField } from "../../api/problem.ts";
import { WarnMark } from "../../shown/shown.tsx";
import { Dialog } from "../../states/dialog.tsx";
import { ProblemPanel } from "../../states/states.tsx";
import { words } from "../../words.ts";
import { asSeen, type Binding, boundIn, CAPABILITIES, changeOf, creationOf, currentOf, type Draft, draftOf, EMPTY, fieldsOf } from "./binding.ts";

const w = words.controllers;

export type FormChoices = { devices: string[]; nodes: { node_id: string; name: string }[]; measurands: (deviceId: string) => string[] };

export function BindingForm({
  depotId,
  of,
  choices,
  onClose,
  onStored,
}: {
  depotId: string;
  of: Binding | null;
  choices: FormChoices;
  onClose: () => void;
  onStored: (binding: Binding) => void;
}) {
  const [seen, setSeen] = useState(of);
  const [draft, setDraft] = useState<Draft>(of ? draftOf(of) : EMPTY);
  const [once] = useState(() => new Once());
  const store = useMutation({
    mutationFn: ({ what, over }: { what: Draft; over: Binding | null }) => send(depotId, what, over, once),
    onSuccess: onStored,
  });
  const problem = store.error instanceof ApiProblem ? store.error : null;
  const current = currentOf(problem);
  const faults = problem && !current ? faultsByField(problem, fieldsOf(draft)) : { at: {}, rest: [] };
  const submit = (event: FormEvent) => {
    event.preventDefault();
    store.mutate({ what: draft, over: seen });
  };
  const change = (part: Partial<Draft>) => setDraft({ ...draft, ...part });
  return (
    <Dialog title={of ? `${w.edit}: ${of.device_id}` : w.create} onClose={onClose} size="lg" typed>
      <form onSubmit={submit} className="stack">
        {problem?.code === "CAPABILITY_SOURCE_CONFLICT" ? (
          <Conflict
            problem={problem}
            offer={seen === null && draft.enabled}
            onDisabled={() => {
              const disabled = { ...draft, enabled: false };
              setDraft(disabled);
              store.mutate({ what: disabled, over: null });
            }}
          />
        ) : null}
        {current ? (
          <Newer
            yours={draft}
            seen={seen}
            current={current}
            nodes={choices.nodes}
            onMine={() => {
              setSeen(current);
              store.mutate({ what: draft, over: current });
            }}
            onTheirs={() => {
              setSeen(current);
              setDraft(draftOf(current));
              store.reset();
            }}
          />
        ) : null}
        {problem && problem.code !== "CAPABILITY_SOURCE_CONFLICT" && faults.rest.length ? (
          problem.faults.length ? (
            <div className="banner bad" role="alert">
              {faults.rest.join(" ")}
            </div>
          ) : (
            <ProblemPanel of={problem} />
          )
        ) : null}
        <Fields draft={draft} faults={faults.at} created={of !== null} choices={choices} change={change} />
        <div className="row">
          <Button type="submit" loading={store.isPending}>
            {of ? w.save : w.create}
          </Button>
          <Button variant="default" onClick={onClose}>
            {words.cancel}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}

async function send(depotId: string, draft: Draft, over: Binding | null, once: Once): Promise<Binding> {
  if (over === null) {
    const path = { depot_id: depotId };
    const body = creationOf(draft);
    const post = (header: { "Idempotency-Key": string }) =>
      told(command.POST("/api/depot/{depot_id}/controller-binding", { params: { path, header }, body }));
    return once.send([path, body], post);
  }
  try {
    const change = { params: asSeen(over), body: changeOf(draft, over) };
    return await told(command.PATCH("/api/controller-binding/{controller_binding_id}", change));
  } catch (fault) {
    const current = currentOf(fault);
    // It stands as it was typed: by our own try whose answer never came, or by somebody of the same mind.
    if (current && Object.keys(changeOf(draft, current)).length === 0) return current;
    throw fault;
  }
}

function Fields({
  draft,
  faults,
  created,
  choices,
  change,
}: {
  draft: Draft;
  faults: Record<string, string>;
  created: boolean;
  choices: FormChoices;
  change: (part: Partial<Draft>) => void;
}) {
  return (
    <>
      <datalist id="devices">
        {choices.devices.map((one) => (
          <option key={one} value={one} />
        ))}
      </datalist>
      <datalist id="measurands">
        {choices.measurands(draft.device_id).map((one) => (
          <option key={one} value={one} />
        ))}
      </datalist>
      <TextInput
        label={w.device}
        list="devices"
        value={draft.device_id}
        error={faults.device_id}
        disabled={created}
        required
        onChange={(event) => change({ device_id: event.currentTarget.value })}
      />
      <NativeSelect
        label={w.scope}
        value={draft.node_id}
        error={faults.node_id}
        disabled={created}
        onChange={(event) => change({ node_id: event.currentTarget.value })}
        data={[{ value: "", label: words.wholeSite }, ...choices.nodes.map((one) => ({ value: one.node_id, label: one.name }))]}
      />
      {CAPABILITIES.map((capability) => (
        <TextInput
          key={capability}
          label={w.measurandFor(words.capabilityLong[capability] ?? capability)}
          list="measurands"
          placeholder={w.notThis}
          value={draft.measurands[capability]}
          error={faults[capability]}
          onChange={(event) => change({ measurands: { ...draft.measurands, [capability]: event.currentTarget.value } })}
        />
      ))}
      {faults.capabilities ? (
        <p className="banner bad" role="alert">
          {faults.capabilities}
        </p>
      ) : null}
      <TextInput
        label={w.staleAfter}
        inputMode="numeric"
        value={draft.stale_after_s}
        error={faults.stale_after_s}
        onChange={(event) => change({ stale_after_s: event.currentTarget.value })}
      />
      <Checkbox
        label={w.enabled}
        checked={draft.enabled}
        error={faults.enabled}
        onChange={(event) => change({ enabled: event.currentTarget.checked })}
      />
    </>
  );
}

function Conflict({ problem, offer, onDisabled }: { problem: ApiProblem; offer: boolean; onDisabled: () => void }) {
  return (
    <div className="banner bad" role="alert" data-conflict>
      <div className="stack tight">
        <strong>{w.conflict}</strong>
        <span>{problem.detail}</span>
        {offer ? (
          <div>
            <Button variant="default" size="xs" onClick={onDisabled}>
              {w.createDisabled}
            </Button>
          </div>
        ) : null}
      </div>
    </div>
  );
}

function Newer({
  yours,
  seen,
  current,
  nodes,
  onMine,
  onTheirs,
}: {
  yours: Draft;
  seen: Binding | null;
  current: Binding;
  nodes: { node_id: string; name: string }[];
  onMine: () => void;
  onTheirs: () => void;
}) {
  const theirs = draftOf(current);
  const told = (draft: Draft) => ({
    [w.scope]: nodes.find((one) => one.node_id === draft.node_id)?.name ?? words.wholeSite,
    [w.capabilities]: boundIn(draft)
      .map((one) => `${words.capability[one]}: ${draft.measurands[one]}`)
      .join(", "),
    [w.staleAfter]: draft.stale_after_s,
    [w.enabled]: draft.enabled ? words.yes : words.no,
  });
  const [mine, other] = [told(yours), told(theirs)];
  return (
    <section className="stack tight" role="alert" data-newer>
      <div className="banner warn">
        <strong>{w.stale}</strong> {w.staleWhy(seen?.version ?? 0, current.version)}
      </div>
      <table>
        <thead>
          <tr>
            <th scope="col">{w.field}</th>
            <th scope="col">{w.yours}</th>
            <th scope="col">{w.theirs}</th>
          </tr>
        </thead>
        <tbody>
          {Object.keys(mine).map((field) => (
            <tr key={field}>
              <th scope="row">{field}</th>
              <td>{mine[field] === other[field] ? mine[field] : <WarnMark>{mine[field]}</WarnMark>}</td>
              <td>{other[field]}</td>
            </tr>
          ))}
        </tbody>
      </table>
      <div className="row">
        <Button size="xs" onClick={onMine}>
          {w.keepYours}
        </Button>
        <Button size="xs" variant="default" onClick={onTheirs}>
          {w.takeTheirs}
        </Button>
      </div>
    </section>
  );
}
