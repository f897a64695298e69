/** Every depot at a glance. Thousands of them: pages are fetched one after the other, and only what is in sight is drawn. */
import { NativeSelect, TextInput } from "@mantine/core";
import { useInfiniteQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useWindowVirtualizer } from "@tanstack/react-virtual";
import { useDeferredValue, useEffect, useMemo, useRef, useState } from "react";
import { type Read, read, told } from "../api/client.ts";
import { Check, Question } from "../look/icons.tsx";
import { freshnessNow, worstFreshness } from "../shown/freshness.ts";
import { useNow } from "../shown/now.ts";
import { FreshnessMark, Id, Mark, StatusMark, WarnMark } from "../shown/shown.tsx";
import { Answered, Empty } from "../states/states.tsx";
import { words } from "../words.ts";
import "./depots.css";

const PAGE_SIZE = 250;
const REFRESH_MS = 20_000;
const MANY = 500;
type Depot = Read["DepotDocument"];
type Filter = keyof typeof words.depots.filters;

export function DepotsPage() {
  const depots = useInfiniteQuery({
    queryKey: ["depots"],
    queryFn: async ({ pageParam }) => {
      const query = { include: "summary" as const, limit: PAGE_SIZE, ...(pageParam ? { cursor: pageParam } : {}) };
      const page = await told(read.GET("/api/depot", { params: { query } }));
      return { ...page, answeredAt: Date.now() };
    },
    initialPageParam: "",
    getNextPageParam: (page) => page.next ?? undefined,
    // A whole round over thousands of depots is not for free.
    refetchInterval: (query) =>
      (query.state.data?.pages.length ?? 0) * PAGE_SIZE > MANY ? 3 * REFRESH_MS : REFRESH_MS,
  });
  const { hasNextPage, isFetchingNextPage, fetchNextPage } = depots;
  useEffect(() => {
    if (hasNextPage && !isFetchingNextPage) void fetchNextPage();
  }, [hasNextPage, isFetchingNextPage, fetchNextPage]);
  return (
    <div className="within content stack">
      <h1>{words.depots.title}</h1>
      <Answered of={depots} lines={8}>
        {(data) => <Depots pages={data.pages} complete={!hasNextPage} />}
      </Answered>
    </div>
  );
}

type Listed = { depot: Depot; answeredAt: number };

function Depots({ pages, complete }: { pages: { items: Depot[]; answeredAt: number }[]; complete: boolean }) {
  const [search, setSearch] = useState("");
  const [filter, setFilter] = useState<Filter>("all");
  const sought = useDeferredValue(search).trim().toLowerCase();
  const all = useMemo<Listed[]>(
    () => pages.flatMap((page) => page.items.map((depot) => ({ depot, answeredAt: page.answeredAt }))),
    [pages],
  );
  const shown = useMemo(() => {
    const now = Date.now();
    return all.filter(({ depot, answeredAt }) => isSought(depot, sought) && passes(depot, filter, answeredAt, now));
  }, [all, sought, filter]);
  if (!all.length && complete)
    return (
      <section className="panel">
        <Empty title={words.depots.empty}>{words.depots.emptyDo}</Empty>
      </section>
    );
  return (
    <>
      <div className="row end">
        <TextInput
          label={words.depots.search}
          type="search"
          value={search}
          onChange={(event) => setSearch(event.currentTarget.value)}
          style={{ flex: "1 1 16rem", maxWidth: "28rem" }}
        />
        <NativeSelect
          label={words.depots.filter}
          value={filter}
          onChange={(event) => setFilter(event.currentTarget.value as Filter)}
          data={Object.entries(words.depots.filters).map(([value, label]) => ({ value, label }))}
        />
        <p className="dim" role="status" style={{ paddingBottom: "0.5rem" }}>
          {complete ? words.depots.count(shown.length, all.length) : words.depots.counting(all.length)}
        </p>
      </div>
      {shown.length ? (
        <DepotList shown={shown} />
      ) : (
        <section className="panel">
          <Empty title={words.depots.nothing}>{words.depots.nothingDo}</Empty>
        </section>
      )}
    </>
  );
}

const isSought = (depot: Depot, sought: string) =>
  !sought || depot.name.toLowerCase().includes(sought) || depot.depot_id.toLowerCase().includes(sought);

function passes(depot: Depot, filter: Filter, answeredAt: number, now: number): boolean {
  const summary = depot.summary;
  if (filter === "none") return depot.microgrid_id === null;
  if (filter === "attention") return Boolean(summary && (summary.remediation_count || summary.dead_letter_count));
  if (filter === "stale")
    return Boolean(summary?.capabilities.some((one) => freshnessNow(one, answeredAt, now) !== "FRESH"));
  return true;
}

const ROW_PX = 57;
const FOLDED_ROW_PX = 132;

function DepotList({ shown }: { shown: Listed[] }) {
  const place = useRef<HTMLUListElement>(null);
  const folded = useFolded();
  const rows = useWindowVirtualizer({
    count: shown.length,
    estimateSize: () => (folded ? FOLDED_ROW_PX : ROW_PX),
    overscan: 8,
    scrollMargin: place.current?.offsetTop ?? 0,
  });
  useEffect(() => rows.measure(), [rows, folded]);
  return (
    <div className="panel depots">
      <div className="depot-row depot-head small dim" aria-hidden="true">
        <span>{words.depots.columns.depot}</span>
        <span>{words.capability.PEAK_SHAVING}</span>
        <span>{words.capability.DER}</span>
        <span>{words.depots.columns.freshness}</span>
        <span>{words.depots.columns.open}</span>
      </div>
      <ul ref={place} style={{ height: rows.getTotalSize() }}>
        {rows.getVirtualItems().map((row) => {
          const { depot, answeredAt } = shown[row.index] as Listed;
          return (
            <li
              key={depot.depot_id}
              className="depot-row"
              aria-setsize={shown.length}
              aria-posinset={row.index + 1}
              ref={folded ? rows.measureElement : undefined}
              data-index={row.index}
              style={{ height: folded ? undefined : row.size, transform: `translateY(${row.start - rows.options.scrollMargin}px)` }}
            >
              <DepotRow depot={depot} answeredAt={answeredAt} />
            </li>
          );
        })}
      </ul>
    </div>
  );
}

function useFolded(): boolean {
  const [query] = useState(() => window.matchMedia("(max-width: 48rem)"));
  const [folded, setFolded] = useState(query.matches);
  useEffect(() => {
    const changed = () => setFolded(query.matches);
    query.addEventListener("change", changed);
    return () => query.removeEventListener("change", changed);
  }, [query]);
  return folded;
}

function DepotRow({ depot, answeredAt }: Listed) {
  const summary = depot.summary;
  const capabilities = summary?.capabilities ?? [];
  const freshness = useNow((now) => worstFreshness(capabilities.map((one) => freshnessNow(one, answeredAt, now))));
  return (
    <>
      <span className="depot-name">
        <Link to="/depot/$depotId" params={{ depotId: depot.depot_id }}>
          {depot.name}
        </Link>
        <Id>{depot.depot_id}</Id>
      </span>
      {depot.microgrid_id === null ? (
        <span className="depot-none">
          <Mark icon={<Question size={14} />}>{words.depots.noMicrogrid}</Mark>
        </span>
      ) : (
        <>
          <Capability of="PEAK_SHAVING" among={capabilities} />
          <Capability of="DER" among={capabilities} />
          <span>
            {freshness === null ? (
              <span className="dim">{words.depots.notBound}</span>
            ) : (
              <FreshnessMark freshness={freshness} />
            )}
          </span>
        </>
      )}
      <span className="row depot-open">
        {summary?.remediation_count ? (
          <Link to="/depot/$depotId/attention" params={{ depotId: depot.depot_id }}>
            <WarnMark>{words.depots.toSettle(summary.remediation_count)}</WarnMark>
          </Link>
        ) : null}
        {summary?.dead_letter_count ? (
          <Link to="/depot/$depotId/dead-letters" params={{ depotId: depot.depot_id }}>
            <WarnMark>{words.depots.letters(summary.dead_letter_count)}</WarnMark>
          </Link>
        ) : null}
        {summary && !summary.remediation_count && !summary.dead_letter_count ? (
          <Mark tone="plain" icon={<Check size={14} />}>
            {words.depots.nothingOpen}
          </Mark>
        ) : null}
      </span>
    </>
  );
}

function Capability({ of, among }: { of: string; among: Read["CapabilityEntry"][] }) {
  const all = among.filter((one) => one.capability === of);
  const first = all[0];
  return (
    <span className="row depot-capability">
      <span className="depot-label small dim">{words.capability[of]}</span>
      {first ? <StatusMark status={first.operational_status} /> : <span className="dim">{words.depots.notBound}</span>}
      {first && first.scope.node_id !== null ? <span className="small">{first.scope.name}</span> : null}
      {all.length > 1 ? <span className="small dim">{words.depots.scopes(all.length - 1)}</span> : null}
    </span>
  );
}
