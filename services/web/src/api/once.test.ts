import assert from "node:assert/strict";
import { test } from "node:test";
import { Once } from "./once.ts";
import { ApiProblem } from "./problem.ts";

for (const [what, status, same] of [
  ["silence", 0, true],
  ["a failure of the server", 500, true],
  ["a server that is away", 503, true],
  ["a refusal", 409, false],
  ["a sign-in that ended", 401, false],
] as const) {
  test(`after ${what} the same command goes out under ${same ? "the same" : "another"} key`, () => {
    const once = new Once();
    const first = once.keyFor("do this");
    once.ended(new ApiProblem(status, "X", ""));
    assert.equal(once.keyFor("do this") === first, same);
  });
}

test("another command has another key, also after silence", () => {
  const once = new Once();
  const first = once.keyFor("do this");
  once.ended(new ApiProblem(0, "UNREACHABLE", ""));
  assert.notEqual(once.keyFor("do that"), first);
});

test("what was done is a new command when it is said again", () => {
  const once = new Once();
  const first = once.keyFor("do this");
  once.ended(null);
  assert.notEqual(once.keyFor("do this"), first);
});
