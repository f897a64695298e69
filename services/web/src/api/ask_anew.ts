/**
 * What is known has become old: ask for it anew.
 *
 * A question that is under way was asked before, and its answer may tell how things were: what is asked anew comes after it. It is not
 * called off, since what changes faster than it is answered would then never be shown; however often it becomes old meanwhile, it is
 * asked anew once.
 */
import type { QueryClient, QueryKey } from "@tanstack/react-query";

/** Ask anew for everything whose key begins so: at once where somebody looks at it, else when somebody does. */
export async function askAnew(client: QueryClient, queryKey: QueryKey): Promise<void> {
  const old = client.getQueryCache().findAll({ queryKey });
  await Promise.all(
    old.map(async (query) => {
      if (query.state.fetchStatus === "fetching") await query.promise?.catch(() => undefined);
      await client.invalidateQueries({ queryKey: query.queryKey, exact: true }, { cancelRefetch: false });
    }),
  );
}
