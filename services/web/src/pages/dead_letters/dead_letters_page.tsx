/** Dead letters: their causes first, then the letters of one cause, then one letter. The address says where one is. */
import { Button, NativeSelect } from "@mantine/core";
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useParams, useSearch } from "@tanstack/react-router";
import type { ReactNode } from "react";
import { type BodyOf, type Read, read, told } from "../../api/client.ts";
import { Check, Left } from "../../look/icons.tsx";
import type { LetterSearch } from "../../routes.tsx";
import { Id, Mark, Moment, WarnMark } from "../../shown/shown.tsx";
import { Answered, Empty } from "../../states/states.tsx";
import { words } from "../../words.ts";
import "./dead_letters.css";
import { Handling } from "./handling.tsx";
import { LetterPage, StatusOf } from "./letter.tsx";
import { scopeOf } from "./letters.ts";

const w = words.deadLetters;
const REFRESH_MS = 10_000;
const MOST_GROUPS = 500;
type Place = { search: LetterSearch; depotId: string | undefined };

export function DeadLettersPage() {
  const search = useSearch({ strict: false }) as LetterSearch;
  const { depotId } = useParams({ strict: false }) as { depotId?: string };
  const place = { search, depotId };
  const page = search.letter ? (
    <>
      <Back to={{ ...search, letter: undefined }}>{search.reason ? w.letters : w.back}</Back>
      <LetterPage id={search.letter} />
    </>
  ) : search.reason ? (
    <OfOneCause {...place} />
  ) : (
    <Causes {...place} />
  );
  // In a depot's frame the heading is the depot's.
  if (depotId !== undefined) return page;
  return (
    <div className="within content stack">
      <h1>{w.title}</h1>
      {page}
    </div>
  );
}

function Back({ to, children }: { to: LetterSearch; children: ReactNode }) {
  return (
    <p>
      <Link to="." search={to as never} className="row">
        <Left size={14} />
        {children}
      </Link>
    </p>
  );
}

const statusOf = (search: LetterSearch) => search.status ?? "PENDING";

type Status = BodyOf<"/api/dead-letter/replay", "post">["status"];

function queryOf({ search, depotId }: Place) {
  return { ...scopeOf(search, depotId), status: statusOf(search) as Status };
}

function StatusChoice({ search }: { search: LetterSearch }) {
  const navigate = useNavigate();
  return (
    <NativeSelect
      label={w.status}
      value={statusOf(search)}
      onChange={(event) => void navigate({ to: ".", search: { ...search, status: event.currentTarget.value } as never })}
      data={Object.entries(w.statuses).map(([value, label]) => ({ value, label }))}
    />
  );
}

function useGroups(place: Place, by: string) {
  return useQuery({
    queryKey: ["dead-letters", "groups", by, queryOf(place)],
    queryFn: async () => {
      const query = { ...queryOf(place), group_by: by, limit: MOST_GROUPS };
      const page = await told(read.GET("/api/dead-letter", { params: { query } }));
      return page.items as Read["DeadLetterGroupDocument"][];
    },
    refetchInterval: REFRESH_MS,
  });
}

function Causes(place: Place) {
  const groups = useGroups(place, "reason_code,stage");
  return (
    <>
      <div className="row apart end">
        <p className="dim">{w.lead}</p>
        <StatusChoice search={place.search} />
      </div>
      {place.search.device ? (
        <p className="row" data-only={place.search.device}>
          {w.ofDevice} <Id>{place.search.device}</Id>
          <Link to="." search={{ ...place.search, device: undefined } as never}>
            {w.ofAll}
          </Link>
        </p>
      ) : null}
      <Answered of={groups}>
        {(items) => (
          <section className="panel">
            {items.length ? (
              <table className="folds">
                <thead>
                  <tr>
                    <th scope="col">{w.cause}</th>
                    <th scope="col">{w.stage}</th>
                    <th scope="col">{w.count}</th>
                    <th scope="col">{w.first}</th>
                    <th scope="col">{w.last}</th>
                  </tr>
                </thead>
                <tbody>
                  {items.map((one) => (
                    <tr key={JSON.stringify(one.group)} data-cause={one.group.reason_code}>
                      <th scope="row">
                        <Link to="." search={{ ...place.search, reason: one.group.reason_code, stage: one.group.stage } as never}>
                          {one.group.reason_code}
                        </Link>
                      </th>
                      <td data-label={w.stage}>{one.group.stage}</td>
                      <td data-label={w.count}>
                        <strong data-count>{one.count}</strong>
                      </td>
                      <td data-label={w.first} className="small">
                        <Moment at={one.first_at} />
                      </td>
                      <td data-label={w.last} className="small">
                        <Moment at={one.last_at} />
                      </td>
                    </tr>
                  ))}
                </tbody>
              </table>
            ) : statusOf(place.search) === "PENDING" && !place.search.device ? (
              <Empty title={w.empty}>
                <Mark tone="good" icon={<Check size={14} />}>
                  {w.emptyDo}
                </Mark>
              </Empty>
            ) : (
              <Empty title={w.emptyFiltered}>{w.emptyFilteredDo}</Empty>
            )}
          </section>
        )}
      </Answered>
    </>
  );
}

function OfOneCause(place: Place) {
  const { search } = place;
  const devices = useGroups({ ...place, search: { ...search, device: undefined } }, "device_id");
  const total = devices.data?.reduce((sum, one) => (search.device && one.group.device_id !== search.device ? sum : sum + one.count), 0);
  return (
    <>
      <Back to={{ depot: search.depot, status: search.status }}>{w.back}</Back>
      <section className="panel stack">
        <div className="row apart end">
          <h2>
            <Id>{search.reason}</Id> {total === undefined ? null : <WarnMark>{w.scopeAll(total)}</WarnMark>}
          </h2>
          <StatusChoice search={search} />
        </div>
        {devices.data && devices.data.length > 1 ? (
          <nav className="row" aria-label={w.device}>
            <Choice search={{ ...search, device: undefined }} chosen={!search.device}>
              {words.all}
            </Choice>
            {devices.data.map((one) =>
              one.group.device_id === null ? (
                <span key="none" className="dim">
                  {w.noDevice} ({one.count})
                </span>
              ) : (
                <Choice key={one.group.device_id} search={{ ...search, device: one.group.device_id }} chosen={search.device === one.group.device_id}>
                  {one.group.device_id} ({one.count})
                </Choice>
              ),
            )}
          </nav>
        ) : null}
        <Handling scope={scopeOf(search, place.depotId)} what={w.scopeAll(total ?? 0)} none={!total || statusOf(search) !== "PENDING"} />
      </section>
      <Letters {...place} />
    </>
  );
}

function Choice({ search, chosen, children }: { search: LetterSearch; chosen: boolean; children: ReactNode }) {
  return (
    <Link to="." search={search as never} className="id" aria-current={chosen ? "true" : undefined} style={chosen ? { fontWeight: 700 } : {}}>
      {children}
    </Link>
  );
}

function Letters(place: Place) {
  const letters = useInfiniteQuery({
    queryKey: ["dead-letters", "letters", queryOf(place)],
    queryFn: async ({ pageParam }) => {
      const query = { ...queryOf(place), limit: 50, ...(pageParam ? { cursor: pageParam } : {}) };
      const page = await told(read.GET("/api/dead-letter", { params: { query } }));
      return { items: page.items as Read["DeadLetterItem"][], next: page.next };
    },
    initialPageParam: "",
    getNextPageParam: (page) => page.next ?? undefined,
  });
  return (
    <Answered of={letters}>
      {(data) => {
        const items = data.pages.flatMap((page) => page.items);
        return (
          <section className="panel stack">
            {items.length ? <Listed items={items} search={place.search} /> : <Empty title={w.emptyFiltered}>{w.emptyFilteredDo}</Empty>}
            {letters.hasNextPage ? (
              <div>
                <Button variant="default" onClick={() => void letters.fetchNextPage()} loading={letters.isFetchingNextPage}>
                  {words.more}
                </Button>
              </div>
            ) : null}
          </section>
        );
      }}
    </Answered>
  );
}

function Listed({ items, search }: { items: Read["DeadLetterItem"][]; search: LetterSearch }) {
  return (
    <table className="folds">
      <thead>
        <tr>
          <th scope="col">{w.letter}</th>
          <th scope="col">{w.device}</th>
          <th scope="col">{w.attempts}</th>
          <th scope="col">{w.last}</th>
          <th scope="col">{w.detail}</th>
        </tr>
      </thead>
      <tbody>
        {items.map((one) => (
          <tr key={one.dead_letter_id}>
            <th scope="row">
              <Link to="." search={{ ...search, letter: one.dead_letter_id } as never} className="id">
                {one.dead_letter_id.slice(0, 8)}
              </Link>{" "}
              <StatusOf status={one.status} />
            </th>
            <td data-label={w.device}>{one.device_id === null ? <span className="dim">{w.noDevice}</span> : <Id>{one.device_id}</Id>}</td>
            <td data-label={w.attempts}>{one.attempts}</td>
            <td data-label={w.last} className="small">
              <Moment at={one.last_failed_at} />
            </td>
            <td data-label={w.detail}>{one.detail}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
