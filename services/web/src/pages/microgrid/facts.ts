/** What a node of the structure says of itself, in words. */
import { withUnit } from "../../shown/number.ts";
import { words } from "../../words.ts";
import type { StructureNode } from "./structure.ts";

export function nameOf(node: StructureNode): string {
  if (node.kind === "connector") return words.microgrid.connector(Number(node.name));
  if (node.kind === "orphans") return words.microgrid.unconnected;
  if (node.kind === "sources") return words.microgrid.sourcesElsewhere;
  return node.name;
}

export function factsOf(node: StructureNode): string {
  return node.facts
    .map(({ fact, value }) => {
      if (fact === "gone") return words.microgrid.gone;
      if (fact === "kind") return words.kind[String(value)] ?? String(value);
      const shown = withUnit(value as number | null, "kW");
      if (shown === null) return null;
      if (fact === "rated") return words.microgrid.rating(shown);
      return words.microgrid[fact](shown);
    })
    .filter((one) => one !== null)
    .join(", ");
}
