/** What a page shows when it does not show what it is for: loading, empty, refused, away, broken. */
import { Button } from "@mantine/core";
import type { UseQueryResult } from "@tanstack/react-query";
import { Link, useMatchRoute, useParams } from "@tanstack/react-router";
import type { ReactNode } from "react";
import { ApiProblem } from "../api/problem.ts";
import { Clock, Cross, Lock, Question, Warning } from "../look/icons.tsx";
import { words } from "../words.ts";

// A blink of the network is over by then.
const UNNOTICED_FAILURES = 1;

export function Loading({ lines = 4 }: { lines?: number }) {
  return (
    <div className="stack" role="status">
      <span className="hidden">{words.loading}</span>
      {Array.from({ length: lines }, (_, number) => (
        <div key={number} className="skeleton" style={{ height: number ? "2.75rem" : "5rem" }} />
      ))}
    </div>
  );
}

/** A sentence of the catalogue in which what one types stands between backticks. */
function withCode(sentence: string): ReactNode {
  return sentence.split("`").map((part, number) => (number % 2 ? <code key={number}>{part}</code> : part));
}

export function Empty({ title, children }: { title: string; children?: ReactNode }) {
  return (
    <div className="empty stack tight">
      <h2>{withCode(title)}</h2>
      {children ? <div>{typeof children === "string" ? withCode(children) : children}</div> : null}
    </div>
  );
}

function described(problem: ApiProblem): { icon: ReactNode; title: string; todo: string } {
  const { fault } = words;
  if (problem.passing) return { icon: <Warning size={22} />, title: fault.unreachable, todo: fault.unreachableDo };
  if (problem.status === 403) return { icon: <Lock size={22} />, title: fault.forbidden, todo: fault.forbiddenDo };
  if (problem.code === "MICROGRID_NOT_FOUND")
    return { icon: <Question size={22} />, title: fault.noMicrogrid, todo: fault.noMicrogridDo };
  if (problem.status === 412) return { icon: <Clock size={22} />, title: fault.overtaken, todo: fault.overtakenDo };
  if (problem.status === 404) return { icon: <Question size={22} />, title: fault.notFound, todo: fault.notFoundDo };
  return { icon: <Cross size={22} />, title: fault.other, todo: fault.otherDo };
}

export function ProblemPanel({ of, retry }: { of: unknown; retry?: () => void }) {
  const problem =
    of instanceof ApiProblem ? of : new ApiProblem(-1, "PAGE_FAULT", of instanceof Error ? of.message : String(of));
  const { icon, title, todo } = described(problem);
  return (
    <section className="panel stack problem" role="alert">
      <div className="row">
        {icon}
        <h2>{title}</h2>
      </div>
      {problem.detail && !problem.passing ? <p className="said">{withCode(problem.detail)}</p> : null}
      {problem.faults.length > 1 ? (
        <ul>
          {problem.faults.map((one) => (
            <li key={`${one.pointer} ${one.code}`}>{one.detail}</li>
          ))}
        </ul>
      ) : null}
      <p className="dim">{todo}</p>
      <div className="row">
        {retry && problem.status !== 404 ? (
          <Button variant="default" size="xs" onClick={retry}>
            {words.retry}
          </Button>
        ) : null}
        {problem.code === "MICROGRID_NOT_FOUND" ? <ToMicrogrid /> : null}
        {problem.status === 404 && problem.code !== "MICROGRID_NOT_FOUND" ? (
          <Link to="/">{words.fault.toDepots}</Link>
        ) : null}
        <span className="small dim">
          {words.fault.code} <code>{problem.code}</code>
        </span>
      </div>
    </section>
  );
}

/** Where a depot gets its microgrid; nothing on that page itself. */
function ToMicrogrid() {
  const { depotId } = useParams({ strict: false });
  const here = useMatchRoute();
  if (depotId === undefined || here({ to: "/depot/$depotId/microgrid" })) return null;
  return (
    <Link to="/depot/$depotId/microgrid" params={{ depotId }}>
      {words.fault.toMicrogrid}
    </Link>
  );
}

/** A question's answer, or the state that stands in for it. Data that could not be brought up to date stays, and says so. */
export function Answered<T>({
  of,
  children,
  lines,
}: {
  of: Pick<UseQueryResult<T>, "data" | "error" | "failureCount" | "failureReason" | "refetch">;
  children: (data: T) => ReactNode;
  lines?: number;
}) {
  // What is asked again by itself is not waited for without a word.
  const fault = of.error ?? (of.failureCount > UNNOTICED_FAILURES ? of.failureReason : null);
  if (of.data !== undefined)
    return (
      <>
        {fault ? (
          <div className="banner warn" role="status">
            <Warning />
            {words.fault.notRefreshed}
          </div>
        ) : null}
        {children(of.data)}
      </>
    );
  if (fault) return <ProblemPanel of={fault} retry={() => void of.refetch()} />;
  return <Loading lines={lines} />;
}
