/** A depot's heading, its pages, and whether what they show is live. */
import { useQuery } from "@tanstack/react-query";
import { Outlet, useLocation, useParams } from "@tanstack/react-router";
import { type ReactNode, useEffect, useRef, useState } from "react";
import { type Read, read, told } from "./api/client.ts";
import { NavLink } from "./frame.tsx";
import { DepotLiveProvider, useCard, useDepotLive } from "./live/depot_live.tsx";
import { Check, Clock, Warning } from "./look/icons.tsx";
import { useNow } from "./shown/now.ts";
import { Id, Mark, Zone } from "./shown/shown.tsx";
import { clockText, spanText } from "./shown/time.ts";
import { Answered } from "./states/states.tsx";
import { words } from "./words.ts";

const LOST_IS_WORTH_TELLING_MS = 1_000;
const BACK_IS_TOLD_FOR_MS = 4_000;

export function DepotFrame() {
  const { depotId } = useParams({ from: "/depot/$depotId" });
  const depot = useQuery({
    queryKey: ["depot", depotId],
    queryFn: () => told(read.GET("/api/depot/{depot_id}", { params: { path: { depot_id: depotId } } })),
  });
  useTitle(depot.data?.name);
  if (!depot.data)
    return (
      <>
        {/* What is known already has its place already: nothing moves when the rest comes. */}
        <Heading depotId={depotId} pages={!depot.error} />
        <div className="within content stack">
          <Answered of={depot}>{() => null}</Answered>
        </div>
      </>
    );
  return (
    <Zone.Provider value={depot.data.timezone}>
      <DepotLiveProvider depot={depot.data} key={depotId}>
        <LiveHeading />
        <div className="within content stack">
          <LiveBanner />
          <Outlet />
        </div>
      </DepotLiveProvider>
    </Zone.Provider>
  );
}

function useTitle(name: string | undefined) {
  useEffect(() => {
    document.title = name ? `${name} · ${words.product}` : words.product;
    return () => {
      document.title = words.product;
    };
  }, [name]);
}

function LiveHeading() {
  const { depot } = useDepotLive();
  const card = useCard(depot.depot_id).data?.card;
  return (
    <Heading depotId={depot.depot_id} name={depot.name} zone={depot.timezone} card={card} pages>
      {depot.microgrid_id === null ? null : <LiveMark />}
    </Heading>
  );
}

/** `pages`: whether there is a depot whose pages could be opened. */
function Heading({
  depotId,
  name,
  zone,
  card,
  pages,
  children,
}: {
  depotId: string;
  name?: string;
  zone?: string;
  card?: Read["Card"];
  pages: boolean;
  children?: ReactNode;
}) {
  return (
    <div className="top">
      <div className="within heading">
        <div className="row apart">
          <div className="row baseline">
            <h1>{name ?? depotId}</h1>
            {name === undefined ? null : <Id>{depotId}</Id>}
            {zone === undefined ? null : <DepotClock zone={zone} />}
          </div>
          {children}
        </div>
        {pages ? <Pages depotId={depotId} card={card} /> : null}
      </div>
    </div>
  );
}

function Pages({ depotId, card }: { depotId: string; card: Read["Card"] | undefined }) {
  const { nav } = words;
  const pages: [path: string, name: string, open?: number][] = [
    ["", nav.load],
    ["/microgrid", nav.microgrid],
    ["/controllers", nav.controllers],
    ["/devices", nav.devices],
    ["/attention", nav.attention, card?.remediation_count],
    ["/events", nav.events],
    ["/dead-letters", nav.deadLetters, card?.dead_letter_count],
  ];
  const tabs = useRef<HTMLElement>(null);
  const { pathname } = useLocation();
  // On a phone not all fit: the one that is open is in sight.
  useEffect(() => {
    const here = tabs.current?.querySelector('[aria-current="page"]');
    if (!tabs.current || !here) return;
    const [all, one] = [tabs.current.getBoundingClientRect(), here.getBoundingClientRect()];
    tabs.current.scrollLeft += one.left + one.width / 2 - (all.left + all.width / 2);
  }, [pathname]);
  return (
    <nav className="tabs" aria-label={nav.depot} ref={tabs}>
      {pages.map(([path, name, open]) => (
        <NavLink key={path} to={`/depot/$depotId${path}`} params={{ depotId }} exact={path === ""}>
          {name}
          <Open count={open} />
        </NavLink>
      ))}
    </nav>
  );
}

const Open = ({ count }: { count: number | undefined }) => (count ? <Mark tone="warn">{count}</Mark> : null);

function DepotClock({ zone }: { zone: string }) {
  const time = useNow((now) => clockText(Math.floor(now / 1000) * 1000, zone));
  return (
    <span className="small dim">
      {time} {zone}
    </span>
  );
}

function LiveMark() {
  const { connection } = useDepotLive();
  const { live } = words;
  return (
    <span data-connection={connection.state}>
      {connection.state === "live" ? (
        <Mark tone="good" icon={<Check size={14} />}>
          {live.live}
        </Mark>
      ) : null}
      {connection.state === "connecting" ? <Mark icon={<Clock size={14} />}>{live.connecting}</Mark> : null}
      {connection.state === "lost" ? (
        <Mark tone="bad" icon={<Warning size={14} />}>
          {live.lost}
        </Mark>
      ) : null}
    </span>
  );
}

/** Says, politely, that the connection is lost, for how long, and that it is back. A blink is not worth a word. */
function LiveBanner() {
  const { connection } = useDepotLive();
  const wasLost = useRef(false);
  const [back, setBack] = useState(false);
  const lostFor = useNow((now) =>
    connection.state === "lost" && now - connection.since > LOST_IS_WORTH_TELLING_MS
      ? Math.floor((now - connection.since) / 1000)
      : null,
  );
  useEffect(() => {
    if (lostFor !== null) wasLost.current = true;
  }, [lostFor]);
  useEffect(() => {
    if (connection.state !== "live" || !wasLost.current) return;
    wasLost.current = false;
    setBack(true);
  }, [connection]);
  // Counted from the word on: a blink of the connection meanwhile does not make it stay.
  useEffect(() => {
    if (!back) return;
    const timer = setTimeout(() => setBack(false), BACK_IS_TOLD_FOR_MS);
    return () => clearTimeout(timer);
  }, [back]);
  return (
    <>
      {/* Said once, without the seconds that go on counting. */}
      <div className="hidden" role="status" aria-live="polite">
        {lostFor !== null ? words.live.lost : back ? words.live.back : ""}
      </div>
      {lostFor !== null ? (
        <div className="banner bad" data-banner="lost">
          <Warning />
          {words.live.lostBanner(spanText(lostFor))}
        </div>
      ) : back ? (
        <div className="banner good" data-banner="back">
          <Check />
          {words.live.back}
        </div>
      ) : null}
    </>
  );
}
