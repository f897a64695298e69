/** The depot that all pages below it are about: what it is, its stream, and its newest card. */
import { type QueryClient, useQuery, useQueryClient } from "@tanstack/react-query";
import { createContext, type ReactNode, useContext, useEffect, useState, useSyncExternalStore } from "react";
import { askAnew } from "../api/ask_anew.ts";
import { type Read, read, told } from "../api/client.ts";
import { currentSession, watchSession } from "../api/session.ts";
import { type Connection, LiveFeed } from "./live_feed.ts";

export type DatedCard = { card: Read["Card"]; answeredAt: number };
export type StreamedEvent = Read["EventDocument"];

type DepotLive = {
  depot: Read["DepotDocument"];
  connection: Connection;
  onEvent: (listener: (event: StreamedEvent) => void) => () => void;
};

const Live = createContext<DepotLive | null>(null);

export function useDepotLive(): DepotLive {
  const live = useContext(Live);
  if (!live) throw new Error("this is no part of a depot's page");
  return live;
}

export const cardQuery = (depotId: string) => ({
  queryKey: ["card", depotId],
  queryFn: async (): Promise<DatedCard> => {
    const card = await told(
      read.GET("/api/depot/{depot_id}/microgrid/card", { params: { path: { depot_id: depotId } } }),
    );
    return { card, answeredAt: Date.now() };
  },
  // The stream keeps it current.
  staleTime: Number.POSITIVE_INFINITY,
});

export const useCard = (depotId: string) => useQuery(cardQuery(depotId));

/** Which answers an event makes old. What only reports a value changes the card, and that comes by itself. */
function outdatedBy(type: string): string[] {
  if (type.startsWith("ControllerBinding") || type === "CapabilityOwnershipMoved") return ["bindings", "devices"];
  if (type.startsWith("GridConnection") || type.startsWith("Microgrid")) return ["microgrid", "structure"];
  return [];
}

function outdate(client: QueryClient, kind: string, depotId: string): void {
  void askAnew(client, [kind, depotId]);
}

export function DepotLiveProvider({ depot, children }: { depot: Read["DepotDocument"]; children: ReactNode }) {
  const client = useQueryClient();
  const [connection, setConnection] = useState<Connection>({ state: "connecting", since: Date.now() });
  const [listeners] = useState(() => new Set<(event: StreamedEvent) => void>());
  const { depot_id, microgrid_id } = depot;
  // A stream that was refused for want of a token begins anew with the next one.
  const { token } = useSyncExternalStore(watchSession, currentSession);
  const [servedWith, setServedWith] = useState(token);
  if (token !== null && token !== servedWith) setServedWith(token);

  useEffect(() => {
    if (microgrid_id === null) return;
    const feed = new LiveFeed(`/api/microgrid/${microgrid_id}/stream`, {
      connection: setConnection,
      message: (event, data) => {
        if (event === "card") takeCard(client, depot_id, JSON.parse(data) as Read["Card"]);
        else if (event === "event") {
          const told = JSON.parse(data) as StreamedEvent;
          for (const kind of outdatedBy(told.event_type)) outdate(client, kind, depot_id);
          for (const listener of listeners) listener(told);
        }
      },
      refused: () => outdate(client, "depot", depot_id),
    });
    return () => feed.end();
  }, [client, depot_id, microgrid_id, listeners, servedWith]);

  const onEvent = (listener: (event: StreamedEvent) => void) => {
    listeners.add(listener);
    return () => listeners.delete(listener);
  };
  return <Live.Provider value={{ depot, connection, onEvent }}>{children}</Live.Provider>;
}

function takeCard(client: QueryClient, depotId: string, card: Read["Card"]): void {
  const before = client.getQueryData<DatedCard>(["card", depotId])?.card;
  client.setQueryData<DatedCard>(["card", depotId], { card, answeredAt: Date.now() });
  if (before && before.remediation_count !== card.remediation_count) outdate(client, "attention", depotId);
  if (before && before.dead_letter_count !== card.dead_letter_count)
    void askAnew(client, ["dead-letters"]);
}
