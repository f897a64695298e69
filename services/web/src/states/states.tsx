/** What a page shows when it does not show what it is for: loading, empty, refused, away, broken. */
import { Button } from "@mantine/core";
import type { UseQueryResult } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import type { ReactNode } from "react";
import { ApiProblem } from "../api/problem.ts";
import { Cross, Lock, Question, Warning } from "../look/icons.tsx";
import { words } from "../words.ts";

export function Loading({ lines = 4 }: { lines?: number }) {
  return (
    <div className="stack" role="status" aria-label={words.loading}>
      {Array.from({ length: lines }, (_, number) => (
        <div key={number} className="skeleton" style={{ height: number ? "2.75rem" : "5rem" }} />
      ))}
    </div>
  );
}

export function Empty({ title, children }: { title: string; children?: ReactNode }) {
  return (
    <div className="empty stack tight">
      <h2>{title}</h2>
      {children ? <div>{children}</div> : null}
    </div>
  );
}

function described(problem: ApiProblem): { icon: ReactNode; title: string; todo: string } {
  const { fault } = words;
  if (problem.passing) return { icon: <Warning size={22} />, title: fault.unreachable, todo: fault.unreachableDo };
  if (problem.status === 403) return { icon: <Lock size={22} />, title: fault.forbidden, todo: fault.forbiddenDo };
  if (problem.code === "MICROGRID_NOT_FOUND")
    return { icon: <Question size={22} />, title: fault.noMicrogrid, todo: fault.noMicrogridDo };
  if (problem.status === 404) return { icon: <Question size={22} />, title: fault.notFound, todo: fault.notFoundDo };
  return { icon: <Cross size={22} />, title: fault.other, todo: fault.otherDo };
}

export function ProblemPanel({ of, retry }: { of: unknown; retry?: () => void }) {
  const problem =
    of instanceof ApiProblem ? of : new ApiProblem(-1, "PAGE_FAULT", of instanceof Error ? of.message : String(of));
  const { icon, title, todo } = described(problem);
  return (
    <section className="panel stack" role="alert">
      <div className="row">
        {icon}
        <h2>{title}</h2>
      </div>
      {problem.detail && !problem.passing ? <p>{problem.detail}</p> : null}
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

/** A question's answer, or the state that stands in for it. Data that could not be brought up to date stays, and says so. */
export function Answered<T>({
  of,
  children,
  lines,
}: {
  of: Pick<UseQueryResult<T>, "data" | "error" | "isPending" | "refetch">;
  children: (data: T) => ReactNode;
  lines?: number;
}) {
  if (of.data !== undefined)
    return (
      <>
        {of.error ? (
          <div className="banner warn" role="status">
            <Warning />
            {words.fault.notRefreshed}
          </div>
        ) : null}
        {children(of.data)}
      </>
    );
  if (of.error) return <ProblemPanel of={of.error} retry={() => void of.refetch()} />;
  return <Loading lines={lines} />;
}
