/**
 * What is known has become old: ask for it anew.
 *
 * A question that is under way was asked before, and its answer may tell how things were. Where it would be the first answer, the client
 * by itself waits for that one and takes it for the new one, for good; so it is called off first.
 */
import type { QueryClient, QueryKey } from "@tanstack/react-query";

/** Ask anew for everything whose key begins so: at once where somebody looks at it, else when somebody does. */
export async function askAnew(client: QueryClient, queryKey: QueryKey): Promise<void> {
  await client.cancelQueries({ queryKey, predicate: (query) => query.state.data === undefined });
  await client.invalidateQueries({ queryKey });
}
