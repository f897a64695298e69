/** What is done with letters: a dry run, a replay with its progress, or giving them up with a reason. */
import { Button, TextInput } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useEffect, useState } from "react";
import { askAnew } from "../../api/ask_anew.ts";
import { command, read, told } from "../../api/client.ts";
import { Once } from "../../api/once.ts";
import { ApiProblem, faultsByField } from "../../api/problem.ts";
import { Id, Mark } from "../../shown/shown.tsx";
import { Empty, Loading, ProblemPanel } from "../../states/states.tsx";
import { Dialog } from "../../states/dialog.tsx";
import { words } from "../../words.ts";
import type { ReplayJob, Scope } from "./letters.ts";

const w = words.deadLetters;
const POLL_MS = 400;
const MOST_SHOWN = 50;
type Doing = "dry-run" | "replay" | "discard" | null;

/** `none`: no letter is left to be handled; what is open over the page then stays until it is read. */
export function Handling({ scope, what, none }: { scope: Scope; what: string; none: boolean }) {
  const [doing, setDoing] = useState<Doing>(null);
  return (
    <>
      <div className="row" hidden={none} style={none ? { display: "none" } : {}}>
        <Button variant="default" onClick={() => setDoing("dry-run")}>
          {w.dryRun}
        </Button>
        <Button onClick={() => setDoing("replay")}>{w.replay}</Button>
        <Button variant="default" onClick={() => setDoing("discard")}>
          {w.discard}
        </Button>
      </div>
      {doing === "discard" ? <Discard scope={scope} what={what} onClose={() => setDoing(null)} /> : null}
      {doing === "dry-run" || doing === "replay" ? (
        <Replay scope={scope} what={what} dryRun={doing === "dry-run"} onClose={() => setDoing(null)} />
      ) : null}
    </>
  );
}

/** A service that knows no such command says 404 NOT_FOUND or 405: that is a state of its own and not a fault. */
const isAbsent = (fault: unknown) => fault instanceof ApiProblem && (fault.code === "NOT_FOUND" || fault.status === 405);

function Replay({ scope, what, dryRun, onClose }: { scope: Scope; what: string; dryRun: boolean; onClose: () => void }) {
  const client = useQueryClient();
  const [once] = useState(() => new Once());
  const body = { ...scope, dry_run: dryRun };
  const begin = useMutation({
    mutationFn: () => once.send(body, (header) => told(command.POST("/api/dead-letter/replay", { params: { header }, body }))),
  });
  const jobId = begin.data?.job_id;
  const job = useQuery({
    queryKey: ["replay", jobId],
    queryFn: () => told(read.GET("/api/dead-letter/replay/{job_id}", { params: { path: { job_id: jobId ?? "" } } })),
    enabled: jobId !== undefined,
    refetchInterval: (query) => (query.state.data && query.state.data.status !== "RUNNING" ? false : POLL_MS),
  });
  const ended = job.data && job.data.status !== "RUNNING";
  useEffect(() => {
    if (ended && !dryRun) {
      void askAnew(client, ["dead-letters"]);
      void askAnew(client, ["letter"]);
    }
  }, [ended, dryRun, client]);
  const { mutate, isIdle } = begin;
  // A trial changes nothing and begins by itself; a replay is confirmed.
  useEffect(() => {
    if (dryRun && isIdle) mutate();
  }, [dryRun, isIdle, mutate]);
  const shown = job.data ?? begin.data;
  return (
    <Dialog title={`${dryRun ? w.dryRunOf : w.replayOf}: ${what}`} onClose={onClose} size="xl">
      <div className="stack">
        {begin.error ? isAbsent(begin.error) ? <Empty title={w.notHere} /> : <ProblemPanel of={begin.error} retry={() => mutate()} /> : null}
        {!dryRun && isIdle ? (
          <>
            <p>{w.replayWhy(what)}</p>
            <div className="row">
              <Button onClick={() => mutate()}>{w.replay}</Button>
              <Button variant="default" onClick={onClose}>
                {words.cancel}
              </Button>
            </div>
          </>
        ) : null}
        {shown ? <Progress of={shown} /> : begin.isPending ? <Loading lines={2} /> : null}
        {shown?.status === "RUNNING" ? <Stop jobId={shown.job_id} /> : null}
        {ended ? (
          <div>
            <Button variant="default" onClick={onClose}>
              {words.close}
            </Button>
          </div>
        ) : null}
      </div>
    </Dialog>
  );
}

function Stop({ jobId }: { jobId: string }) {
  const stop = useMutation({ mutationFn: () => told(command.DELETE("/api/dead-letter/replay/{job_id}", { params: { path: { job_id: jobId } } })) });
  return (
    <div>
      <Button variant="default" size="xs" onClick={() => stop.mutate()} loading={stop.isPending}>
        {w.stop}
      </Button>
    </div>
  );
}

const TONES: Record<string, string> = { DONE: "good", FAILED: "bad", CANCELLED: "warn", RUNNING: "" };

function Progress({ of }: { of: ReplayJob }) {
  return (
    <section className="stack tight" data-job={of.status}>
      <div className="row">
        {/* Told is where the job is; its numbers would never let a listener rest. */}
        <span role="status">
          <Mark tone={TONES[of.status]}>{w.jobStatuses[of.status] ?? of.status}</Mark>
        </span>
        <span data-progress>{w.progress(of.done, of.total)}</span>
      </div>
      <progress max={Math.max(of.total, 1)} value={of.total ? of.done : of.status === "RUNNING" ? 0 : 1} aria-label={w.replay} style={{ width: "100%" }} />
      <ul className="row" style={{ listStyle: "none", margin: 0, padding: 0 }} aria-label={w.outcomes}>
        {Object.entries(of.outcomes).map(([outcome, count]) => (
          <li key={outcome}>
            <Mark tone={outcome === "STORED" ? "good" : outcome === "DEAD_LETTERED" || outcome === "NOT_REPLAYABLE" ? "bad" : ""}>
              {outcome}: {count}
            </Mark>
          </li>
        ))}
      </ul>
      {of.letters.length ? (
        <details open={of.letters.length <= 3}>
          <summary>{w.letters}</summary>
          <ul className="stack tight small">
            {of.letters.slice(0, MOST_SHOWN).map((one) => (
              <li key={one.dead_letter_id}>
                <Mark tone={one.outcome === "STORED" ? "good" : one.code ? "bad" : ""}>{one.code ?? one.outcome}</Mark>{" "}
                <Id>{one.dead_letter_id}</Id> {one.detail}
                {one.difference.length ? <pre>{JSON.stringify(one.difference, null, 1)}</pre> : null}
              </li>
            ))}
          </ul>
        </details>
      ) : null}
    </section>
  );
}

function Discard({ scope, what, onClose }: { scope: Scope; what: string; onClose: () => void }) {
  const client = useQueryClient();
  const [why, setWhy] = useState("");
  const [missing, setMissing] = useState(false);
  const [once] = useState(() => new Once());
  const discard = useMutation({
    mutationFn: () => {
      const body = { ...scope, why };
      return once.send(body, (header) => told(command.POST("/api/dead-letter/discard", { params: { header }, body })));
    },
    onSuccess: () => {
      void askAnew(client, ["dead-letters"]);
      void askAnew(client, ["letter"]);
    },
  });
  const problem = discard.error instanceof ApiProblem && !isAbsent(discard.error) ? discard.error : null;
  const faults = problem ? faultsByField(problem, { "/why": "why" }) : { at: {} as Record<string, string>, rest: [] };
  const submit = (event: FormEvent) => {
    event.preventDefault();
    setMissing(!why.trim());
    if (why.trim()) discard.mutate();
  };
  return (
    <Dialog title={`${w.discardOf}: ${what}`} onClose={onClose} typed>
      {discard.data ? (
        <div className="stack" role="status">
          <p className="banner good">{w.discarded(discard.data.discarded)}</p>
          <div>
            <Button variant="default" onClick={onClose}>
              {words.close}
            </Button>
          </div>
        </div>
      ) : (
        <form onSubmit={submit} className="stack">
          {isAbsent(discard.error) ? <Empty title={w.notHere} /> : null}
          {faults.rest.length && problem ? <ProblemPanel of={problem} /> : null}
          <TextInput
            label={w.discardWhy}
            description={w.discardHint}
            value={why}
            error={missing ? w.whyMissing : faults.at.why}
            onChange={(event) => setWhy(event.currentTarget.value)}
            data-autofocus
          />
          <div className="row">
            <Button type="submit" color="red" loading={discard.isPending}>
              {w.discard}
            </Button>
            <Button variant="default" onClick={onClose}>
              {words.cancel}
            </Button>
          </div>
        </form>
      )}
    </Dialog>
  );
}
