/** A controller binding as the API tells it, as a form holds it, and the way from one to the other and back. */

import type { BodyOf, Read } from "../../api/client.ts";
import { ApiProblem } from "../../api/problem.ts";

export type Binding = Read["ControllerBindingDocument"];
type Creation = BodyOf<"/api/depot/{depot_id}/controller-binding", "post">;
type Change = BodyOf<"/api/controller-binding/{controller_binding_id}", "patch">;

export const CAPABILITIES = ["PEAK_SHAVING", "DER"] as const;
export type Capability = (typeof CAPABILITIES)[number];

/** What a person types, as they typed it. An empty measurand: this capability is none of the binding's. */
export type Draft = {
  device_id: string;
  node_id: string;
  enabled: boolean;
  stale_after_s: string;
  measurands: Record<Capability, string>;
};

export const EMPTY: Draft = {
  device_id: "",
  node_id: "",
  enabled: true,
  stale_after_s: "300",
  measurands: { PEAK_SHAVING: "PEAK_SHAVING", DER: "DER" },
};

const measurandOf = (binding: Binding, capability: Capability) =>
  binding.capabilities.find((one) => one.capability === capability)?.measurand ?? "";

export function draftOf(binding: Binding): Draft {
  return {
    device_id: binding.device_id,
    node_id: binding.node_id ?? "",
    enabled: binding.enabled,
    stale_after_s: String(binding.stale_after_s),
    measurands: { PEAK_SHAVING: measurandOf(binding, "PEAK_SHAVING"), DER: measurandOf(binding, "DER") },
  };
}

/** The capabilities of a draft, in the order in which they are sent. */
export const boundIn = (draft: Draft): Capability[] => CAPABILITIES.filter((one) => draft.measurands[one].trim() !== "");

const changeable = (draft: Draft) => ({
  enabled: draft.enabled,
  // What is no number is sent as it was typed: the server says what is wrong with it, at its field.
  stale_after_s: (draft.stale_after_s.trim() === "" || Number.isNaN(Number(draft.stale_after_s))
    ? draft.stale_after_s
    : Number(draft.stale_after_s)) as number,
  capabilities: boundIn(draft).map((capability) => ({ capability, measurand: draft.measurands[capability].trim() })),
});

export const creationOf = (draft: Draft): Creation => ({
  device_id: draft.device_id.trim(),
  ...(draft.node_id ? { node_id: draft.node_id } : {}),
  ...changeable(draft),
});

/** Only what differs from the binding as it was seen, so that a change of one thing says nothing of another. */
export function changeOf(draft: Draft, seen: Binding): Change {
  const before: Record<string, unknown> = changeable(draftOf(seen));
  return Object.fromEntries(Object.entries(changeable(draft)).filter(([name, value]) => JSON.stringify(value) !== JSON.stringify(before[name])));
}

/** A binding as it was seen, for a request that is to be done to that version alone. */
export const asSeen = (seen: Binding) => ({
  path: { controller_binding_id: seen.controller_binding_id },
  header: { "If-Match": `"${seen.version}"` },
});

/** Which field of the form shows the fault of which pointer. */
export function fieldsOf(draft: Draft): Record<string, string> {
  return {
    "/device_id": "device_id",
    "/node_id": "node_id",
    "/enabled": "enabled",
    "/stale_after_s": "stale_after_s",
    ...Object.fromEntries(boundIn(draft).map((capability, index) => [`/capabilities/${index}`, capability])),
    "/capabilities": "capabilities",
  };
}

/** Who owns a capability in a binding's scope now, other than the binding itself; null where nobody does. */
export function ownerOf(bindings: readonly Binding[], incoming: Binding): Binding | null {
  const wanted = new Set(incoming.capabilities.map((one) => one.capability));
  const owns = (one: Binding) =>
    one.enabled &&
    one.controller_binding_id !== incoming.controller_binding_id &&
    one.node_id === incoming.node_id &&
    one.capabilities.some((bound) => wanted.has(bound.capability));
  return bindings.find(owns) ?? null;
}

/** The binding as it stands, told by a refusal for somebody was faster; null for any other fault. */
export const currentOf = (fault: unknown): Binding | null =>
  fault instanceof ApiProblem && fault.code === "VERSION_CONFLICT" ? (fault.document as { current: Binding }).current : null;

/** Who owns now what was to be taken over from somebody else; null for any other fault, and where nobody does. */
export function newOwnerOf(fault: unknown): string | null {
  if (!(fault instanceof ApiProblem) || fault.code !== "CAPABILITY_SOURCE_CONFLICT") return null;
  const { conflicts } = fault.document as { conflicts: { active_device_id: string | null }[] };
  return conflicts.find((one) => one.active_device_id !== null)?.active_device_id ?? null;
}
