/** One clock for all that counts on a page: it ticks four times a second, and not while nobody looks. */
import { useSyncExternalStore } from "react";

const TICK_MS = 250;
const watchers = new Set<() => void>();
let now = Date.now();
let timer: ReturnType<typeof setInterval> | null = null;

function tick() {
  now = Date.now();
  for (const watcher of watchers) watcher();
}

function watch(watcher: () => void): () => void {
  watchers.add(watcher);
  timer ??= setInterval(tick, TICK_MS);
  return () => {
    watchers.delete(watcher);
    if (!watchers.size && timer) {
      clearInterval(timer);
      timer = null;
    }
  };
}

/** What a function makes of the time, again whenever that changes; the function should give a primitive. */
export function useNow<T>(of: (now: number) => T): T {
  return useSyncExternalStore(watch, () => of(timer ? now : Date.now()));
}
