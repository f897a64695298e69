import assert from "node:assert/strict";
import { test } from "node:test";
import { EventReader } from "./server_sent_events.ts";

const readAll = (...pieces: string[]) => {
  const reader = new EventReader();
  return { events: pieces.flatMap((piece) => reader.read(piece)), lastId: reader.lastId };
};

test("an event is sent off by its empty line, and with it its id", () => {
  assert.deepEqual(readAll("event: card\ndata: {}\nid: 5-1\n\n"), { events: [{ event: "card", data: "{}" }], lastId: "5-1" });
});

test("what no empty line ends is not told, and its id does not count", () => {
  assert.deepEqual(readAll("id: 5-1\ndata: x\n"), { events: [], lastId: null });
});

test("an id without data counts, as after the comment with which a stream begins", () => {
  assert.deepEqual(readAll(": from here on\nid: 7-7\n\n"), { events: [], lastId: "7-7" });
});

test("lines of data are joined, and a type counts for one event only", () => {
  assert.deepEqual(readAll("event: a\ndata: 1\ndata: 2\n\ndata: 3\n\n").events, [
    { event: "a", data: "1\n2" },
    { event: "message", data: "3" },
  ]);
});

test("one blank after the colon is no part of the value, and a field without a colon is empty", () => {
  assert.deepEqual(readAll("data:  x\ndata\ndata:y\n\n").events, [{ event: "message", data: " x\n\ny" }]);
});

test("wherever the text is cut and however its lines end, the events are the same", () => {
  const lines = ["event: card", 'data: {"a":1}', "", ": still here", "", "id: 1-2", "event: event", "data: x", "data: y", "", "data: z", "", ""];
  const whole = readAll(lines.join("\n"));
  assert.equal(whole.events.length, 3);
  for (const ending of ["\n", "\r", "\r\n"]) {
    const text = lines.join(ending);
    for (let cut = 0; cut <= text.length; cut++) {
      assert.deepEqual(readAll(text.slice(0, cut), text.slice(cut)), whole, `${JSON.stringify(ending)} cut at ${cut}`);
    }
    assert.deepEqual(readAll(...text), whole, "letter by letter");
  }
});
