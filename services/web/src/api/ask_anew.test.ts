import assert from "node:assert/strict";
import { test } from "node:test";
import { QueryClient, QueryObserver } from "@tanstack/react-query";
import { askAnew } from "./ask_anew.ts";

const KEY = ["letters", "depot-1"];

/** A question that somebody looks at, whose answers are given by hand: each says when it was asked. */
function asked() {
  const client = new QueryClient();
  const held: (() => void)[] = [];
  let now = 0;
  const observer = new QueryObserver(client, {
    queryKey: KEY,
    queryFn: () => {
      const then = now;
      return new Promise<number>((resolve) => held.push(() => resolve(then)));
    },
  });
  const leave = observer.subscribe(() => undefined);
  return {
    leave: () => {
      leave();
      client.clear();
    },
    change: () => {
      now++;
      return askAnew(client, ["letters"]);
    },
    questions: () => held.length,
    answer: async () => {
      const answers = () => client.getQueryState(KEY)?.dataUpdateCount;
      const before = answers();
      held.at(-1)?.();
      while (answers() === before) await new Promise(setImmediate);
    },
    shown: () => client.getQueryData(KEY),
  };
}

test("what was asked before a change is asked anew after its answer has come", async () => {
  const letters = asked();
  const known = letters.change();
  await letters.answer();
  assert.equal(letters.shown(), 0);
  await new Promise(setImmediate);
  await letters.answer();
  await known;
  assert.equal(letters.shown(), 1);
  letters.leave();
});

test("what changes faster than it is answered is shown nevertheless, and asked anew once", async () => {
  const letters = asked();
  const known = [letters.change(), letters.change(), letters.change()];
  assert.equal(letters.questions(), 1);
  await letters.answer();
  assert.equal(letters.shown(), 0);
  await new Promise(setImmediate);
  assert.equal(letters.questions(), 2);
  const later = letters.change();
  await letters.answer();
  assert.equal(letters.shown(), 3);
  await Promise.all(known);
  await letters.answer();
  await later;
  assert.equal(letters.shown(), 4);
  letters.leave();
});

test("what nobody looks at is asked for when somebody does", async () => {
  const client = new QueryClient({ defaultOptions: { queries: { staleTime: Number.POSITIVE_INFINITY } } });
  client.setQueryData(KEY, "old");
  await askAnew(client, ["letters"]);
  assert.equal(client.getQueryData(KEY), "old");
  assert.equal(client.getQueryState(KEY)?.isInvalidated, true);
  client.clear();
});
