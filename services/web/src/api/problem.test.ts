import assert from "node:assert/strict";
import { test } from "node:test";
import { ApiProblem, faultsByField, problemOf } from "./problem.ts";

const refused = (...faults: [string, string][]) =>
  new ApiProblem(422, "VALIDATION_FAILED", "several", faults.map(([pointer, code]) => ({ pointer, code, detail: `at ${pointer}` })));

test("each fault stands at the field under whose pointer it lies, the longest first", () => {
  const found = faultsByField(refused(["/device_id", "UNKNOWN_DEVICE"], ["/capabilities/0/measurand", "X"], ["/capabilities", "EMPTY_BINDING"]), {
    "/device_id": "device",
    "/capabilities": "all",
    "/capabilities/0": "first",
  });
  assert.deepEqual(found.at, {
    device: "at /device_id (UNKNOWN_DEVICE)",
    first: "at /capabilities/0/measurand (X)",
    all: "at /capabilities (EMPTY_BINDING)",
  });
  assert.deepEqual(found.rest, []);
});

test("a pointer that only begins like a field is another one, and what has no field is not swallowed", () => {
  const found = faultsByField(refused(["/device_id_2", "X"]), { "/device_id": "device" });
  assert.deepEqual(found, { at: {}, rest: ["at /device_id_2 (X)"] });
});

test("two faults of one field are both told", () => {
  assert.equal(faultsByField(refused(["/a", "X"], ["/a", "Y"]), { "/a": "a" }).at.a, "at /a (X) at /a (Y)");
});

test("a problem without a list is one fault", () => {
  const found = faultsByField(new ApiProblem(404, "DEVICE_NOT_FOUND", "no device"), { "/device_id": "device" });
  assert.deepEqual(found, { at: {}, rest: ["no device (DEVICE_NOT_FOUND)"] });
});

test("an answer that is no problem document still has a code and a status", () => {
  const problem = problemOf(502, "<html>bad gateway</html>");
  assert.deepEqual([problem.status, problem.code, problem.passing], [502, "HTTP_502", true]);
});

test("silence passes, a refusal stands", () => {
  assert.equal(new ApiProblem(0, "UNREACHABLE", "").passing, true);
  assert.equal(new ApiProblem(503, "DATABASE_UNAVAILABLE", "").passing, true);
  assert.equal(new ApiProblem(403, "FORBIDDEN", "").passing, false);
});
