/** Which letters are meant: what stands in the address, as the read API filters and as a command names them. */
import type { LetterSearch } from "../../routes.tsx";

export type Scope = { reason_code?: string; depot_id?: string; device_id?: string; stage?: string; dead_letter_ids?: string[] };

export type ReplayedLetter = {
  dead_letter_id: string;
  outcome: string;
  code: string | null;
  detail: string | null;
  difference: unknown[];
};
export type ReplayJob = {
  job_id: string;
  status: "RUNNING" | "DONE" | "CANCELLED" | "FAILED";
  total: number;
  done: number;
  outcomes: Record<string, number>;
  letters: ReplayedLetter[];
};

/** The letters of an address, in a depot or in all. */
export function scopeOf(search: LetterSearch, depotId: string | undefined): Scope {
  const depot = depotId ?? search.depot;
  return {
    ...(search.reason ? { reason_code: search.reason } : {}),
    ...(depot ? { depot_id: depot } : {}),
    ...(search.device ? { device_id: search.device } : {}),
    ...(search.stage ? { stage: search.stage } : {}),
  };
}
