/** What a person must settle in a depot, and how. */
import { useInfiniteQuery } from "@tanstack/react-query";
import { Button } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { type Read, read, told } from "../api/client.ts";
import { useDepotLive } from "../live/depot_live.tsx";
import { Check } from "../look/icons.tsx";
import { Id, Mark, Moment, WarnMark } from "../shown/shown.tsx";
import { Answered, Empty } from "../states/states.tsx";
import { words } from "../words.ts";

export function AttentionPage() {
  const { depot } = useDepotLive();
  const open = useInfiniteQuery({
    queryKey: ["attention", depot.depot_id],
    queryFn: ({ pageParam }) =>
      told(
        read.GET("/api/depot/{depot_id}/remediation", {
          params: { path: { depot_id: depot.depot_id }, query: pageParam ? { cursor: pageParam } : {} },
        }),
      ),
    initialPageParam: "",
    getNextPageParam: (page) => page.next ?? undefined,
    refetchInterval: 15_000,
  });
  return (
    <>
      <p className="dim">{words.attention.lead}</p>
      <Answered of={open}>
        {(data) => {
          const items = data.pages.flatMap((page) => page.items);
          if (!items.length)
            return (
              <section className="panel">
                <Empty title={words.attention.empty}>
                  <Mark tone="good" icon={<Check size={14} />}>
                    {words.attention.emptyDo}
                  </Mark>
                </Empty>
              </section>
            );
          return (
            <>
              {items.map((one) => (
                <Open key={`${one.device_id} ${one.measurand} ${one.action} ${one.code}`} of={one} depotId={depot.depot_id} />
              ))}
              {open.hasNextPage ? (
                <div>
                  <Button variant="default" onClick={() => void open.fetchNextPage()} loading={open.isFetchingNextPage}>
                    {words.more}
                  </Button>
                </div>
              ) : null}
            </>
          );
        }}
      </Answered>
    </>
  );
}

function Open({ of, depotId }: { of: Read["RemediationDocument"]; depotId: string }) {
  const { attention } = words;
  return (
    <article className="panel stack tight" data-attention={of.code}>
      <div className="row apart">
        <h2 className="row">
          <WarnMark>{of.code}</WarnMark>
          <span>
            <Link to="/depot/$depotId/devices/$deviceId" params={{ depotId, deviceId: of.device_id }}>
              {of.device_id}
            </Link>{" "}
            <span className="dim">/</span> <Id>{of.measurand}</Id>
          </span>
        </h2>
        <span className="small dim">{attention.count(of.count)}</span>
      </div>
      <p>
        <strong>{attention.toDo}:</strong> {of.advice}
      </p>
      <p className="row">
        <Cure code={of.code} depotId={depotId} />
        <Link to="/depot/$depotId/dead-letters" params={{ depotId }} search={{ device: of.device_id } as never}>
          {attention.toLetters}
        </Link>
      </p>
      <dl className="facts-wide small">
        <div>
          <dt>{attention.action}</dt>
          <dd>
            <Id>{of.action}</Id>
          </dd>
        </div>
        <div>
          <dt>{attention.candidates}</dt>
          <dd>{of.candidates.length ? <Id>{of.candidates.join(", ")}</Id> : words.none}</dd>
        </div>
        <div>
          <dt>{attention.first}</dt>
          <dd>
            <Moment at={of.first_at} />
          </dd>
        </div>
        <div>
          <dt>{attention.last}</dt>
          <dd>
            <Moment at={of.last_at} />
          </dd>
        </div>
      </dl>
    </article>
  );
}

/** The page on which this can be settled, where there is one; the rest is the site file's. */
function Cure({ code, depotId }: { code: string; depotId: string }) {
  const { attention } = words;
  if (code === "CAPABILITY_NOT_BOUND")
    return (
      <Link to="/depot/$depotId/controllers" params={{ depotId }}>
        {attention.toControllers}
      </Link>
    );
  if (code === "MICROGRID_NOT_FOUND")
    return (
      <Link to="/depot/$depotId/microgrid" params={{ depotId }}>
        {attention.toMicrogrid}
      </Link>
    );
  return null;
}
