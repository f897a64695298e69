/** A microgrid's history, last recorded first, with filters that stand in the address. What is new is offered, and moves nothing. */
import { Button, NativeSelect, TextInput } from "@mantine/core";
import { useInfiniteQuery } from "@tanstack/react-query";
import { getRouteApi } from "@tanstack/react-router";
import { type FormEvent, useEffect, useState } from "react";
import { type Read, read, told } from "../api/client.ts";
import { ApiProblem } from "../api/problem.ts";
import { useDepotLive } from "../live/depot_live.tsx";
import type { EventSearch } from "../routes.tsx";
import { Id, Mark, Moment } from "../shown/shown.tsx";
import { fromLocal, toLocal } from "../shown/time.ts";
import { Answered, Empty, ProblemPanel } from "../states/states.tsx";
import { words } from "../words.ts";

const PAGE_SIZE = 50;
const TYPES = [
  "CapabilityStatusReported",
  "PowerSourceStateReported",
  "PowerSourceLoadReported",
  "CircuitCapacityReported",
  "MeasurementRecorded",
  "ControllerHeartbeatLost",
  "ControllerHeartbeatRestored",
  "MicrogridProvisioned",
  "GridConnectionAdded",
  "GridConnectionRemoved",
  "GridConnectionRenamed",
  "GridConnectionsReordered",
  "MicrogridResynced",
  "MicrogridRetired",
  "ControllerBindingCreated",
  "ControllerBindingUpdated",
  "ControllerBindingDeleted",
  "CapabilityOwnershipMoved",
];
const route = getRouteApi("/depot/$depotId/events");

export function EventsPage() {
  const { depot } = useDepotLive();
  const search = route.useSearch();
  if (depot.microgrid_id === null) return <ProblemPanel of={new ApiProblem(404, "MICROGRID_NOT_FOUND", "")} />;
  return (
    <>
      <p className="dim">{words.events.lead}</p>
      <Filters key={JSON.stringify(search)} search={search} zone={depot.timezone} />
      <History key={`${JSON.stringify(search)} of`} microgridId={depot.microgrid_id} search={search} />
    </>
  );
}

function Filters({ search, zone }: { search: EventSearch; zone: string }) {
  const navigate = route.useNavigate();
  const [type, setType] = useState(search.type ?? "");
  const [from, setFrom] = useState(search.from ? toLocal(search.from, zone) : "");
  const [to, setTo] = useState(search.to ? toLocal(search.to, zone) : "");
  const [fault, setFault] = useState<{ from?: string; to?: string }>({});
  const show = (event: FormEvent) => {
    event.preventDefault();
    const times = { from: from ? fromLocal(from, zone) : undefined, to: to ? fromLocal(to, zone) : undefined };
    const bad = (time: string | null | undefined) => (time === null ? words.events.badTime : undefined);
    setFault({ from: bad(times.from), to: bad(times.to) });
    if (times.from === null || times.to === null) return;
    void navigate({ search: { type: type || undefined, from: times.from, to: times.to } as never });
  };
  return (
    <form className="row end" onSubmit={show}>
      <NativeSelect
        label={words.events.type}
        value={type}
        onChange={(event) => setType(event.currentTarget.value)}
        data={[{ value: "", label: words.events.allTypes }, ...TYPES.map((one) => ({ value: one, label: one }))]}
      />
      <TextInput
        type="datetime-local"
        step={1}
        label={`${words.events.from}, ${words.events.inZone(zone)}`}
        value={from}
        error={fault.from}
        onChange={(event) => setFrom(event.currentTarget.value)}
      />
      <TextInput
        type="datetime-local"
        step={1}
        label={`${words.events.to}, ${words.events.inZone(zone)}`}
        value={to}
        error={fault.to}
        onChange={(event) => setTo(event.currentTarget.value)}
      />
      <Button type="submit">{words.events.apply}</Button>
      {search.type || search.from || search.to ? (
        <Button variant="default" onClick={() => void navigate({ search: {} as never })}>
          {words.events.clear}
        </Button>
      ) : null}
    </form>
  );
}

function History({ microgridId, search }: { microgridId: string; search: EventSearch }) {
  const { onEvent } = useDepotLive();
  const [news, setNews] = useState(0);
  const history = useInfiniteQuery({
    queryKey: ["events", microgridId, search],
    queryFn: ({ pageParam }) =>
      told(
        read.GET("/api/microgrid/{microgrid_id}/event", {
          params: {
            path: { microgrid_id: microgridId },
            query: {
              limit: PAGE_SIZE,
              ...(pageParam ? { cursor: pageParam } : {}),
              ...(search.type ? { event_type: [search.type] as never } : {}),
              ...(search.from ? { from: search.from } : {}),
              ...(search.to ? { to: search.to } : {}),
            },
          },
        }),
      ),
    initialPageParam: "",
    getNextPageParam: (page) => page.next ?? undefined,
    staleTime: Number.POSITIVE_INFINITY,
    gcTime: 0,
    refetchOnWindowFocus: false,
  });
  useEffect(
    () =>
      onEvent((event) => {
        if (!search.to && (!search.type || search.type === event.event_type)) setNews((count) => count + 1);
      }),
    [onEvent, search],
  );
  const refresh = () => {
    setNews(0);
    void history.refetch();
  };
  return (
    <>
      <div aria-live="off">
        {news ? (
          <Button variant="default" size="xs" onClick={refresh}>
            {words.events.newer(news)}
          </Button>
        ) : null}
      </div>
      <Answered of={history}>
        {(data) => {
          const items = data.pages.flatMap((page) => page.items);
          return (
            <section className="panel stack">
              {items.length ? <Listed items={items} /> : <Empty title={words.events.empty}>{words.events.emptyDo}</Empty>}
              {history.hasNextPage ? (
                <div>
                  <Button variant="default" onClick={() => void history.fetchNextPage()} loading={history.isFetchingNextPage}>
                    {words.events.older}
                  </Button>
                </div>
              ) : null}
            </section>
          );
        }}
      </Answered>
    </>
  );
}

function Listed({ items }: { items: Read["EventDocument"][] }) {
  const { events } = words;
  return (
    <table className="folds">
      <thead>
        <tr>
          <th scope="col">{events.what}</th>
          <th scope="col">{events.subject}</th>
          <th scope="col">{events.observed}</th>
          <th scope="col">{events.recorded}</th>
          <th scope="col">{events.details}</th>
        </tr>
      </thead>
      <tbody>
        {items.map((one) => (
          <tr key={one.event_id} data-event-id={one.event_id}>
            <th scope="row">
              {one.event_type} {one.history_only ? <Mark>{events.history}</Mark> : null}
            </th>
            <td data-label={events.subject}>
              <Id>{one.subject ?? words.none}</Id>
            </td>
            <td data-label={events.observed} className="small">
              <Moment at={one.observed_at} />
            </td>
            <td data-label={events.recorded} className="small">
              <Moment at={one.recorded_at} />
            </td>
            <td data-label={events.details}>
              <details className="small">
                <summary>{events.payload}</summary>
                <pre>{JSON.stringify(one.payload, null, 1)}</pre>
                <div className="dim">{events.metadata}</div>
                <pre>{JSON.stringify({ ...one.metadata, event_id: one.event_id, position: one.position }, null, 1)}</pre>
              </details>
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
