/** All pages of a list that is known to be short: what one depot has of one kind. Ends at a bound, so that a slip never loops. */
const MOST_PAGES = 20;

export async function everyPage<T>(ask: (cursor: string | undefined) => Promise<{ items: T[]; next: string | null }>): Promise<T[]> {
  const all: T[] = [];
  let cursor: string | undefined;
  for (let page = 0; page < MOST_PAGES; page++) {
    const told = await ask(cursor);
    all.push(...told.items);
    if (told.next === null) return all;
    cursor = told.next;
  }
  return all;
}
