/** Which letters are meant: what stands in the address, as the read API filters and as a command names them. */
import type { BodyOf, Command } from "../../api/client.ts";
import type { LetterSearch } from "../../routes.tsx";

export type Scope = Pick<
  BodyOf<"/api/dead-letter/replay", "post">,
  "reason_code" | "depot_id" | "device_id" | "stage" | "dead_letter_ids"
>;
export type ReplayJob = Command["ReplayJobDocument"];

/** The letters of an address, in a depot or in all. */
export function scopeOf(search: LetterSearch, depotId: string | undefined): Scope {
  const depot = depotId ?? search.depot;
  return {
    ...(search.reason ? { reason_code: search.reason } : {}),
    ...(depot ? { depot_id: depot } : {}),
    ...(search.device ? { device_id: search.device } : {}),
    // A stage that there is none of, typed into the address, is the server's to refuse.
    ...(search.stage ? { stage: search.stage as Scope["stage"] } : {}),
  };
}
