/** Both halves of the HTTP interface, typed by what `contracts/` promises, with the token of whoever uses the page. */
import createClient from "openapi-fetch";
import type { components as CommandParts, paths as CommandPaths } from "./contract/command.d.ts";
import type { components as ReadParts, paths as ReadPaths } from "./contract/read.d.ts";
import { ApiProblem, problemOf } from "./problem.ts";
import { authorized, tokenRefused } from "./session.ts";

export type Read = ReadParts["schemas"];
export type Command = CommandParts["schemas"];
/** What the body of a command may say. */
export type BodyOf<Path extends keyof CommandPaths, Method extends "post" | "patch"> = CommandPaths[Path] extends {
  [method in Method]: { requestBody: { content: { "application/json": infer Body } } };
}
  ? Body
  : never;

async function asCaller(request: Request): Promise<Response> {
  const headers = new Headers(request.headers);
  const asked = authorized();
  for (const [name, value] of Object.entries(asked)) headers.set(name, value);
  const answer = await fetch(new Request(request, { headers }));
  // What was asked before somebody signed in again says nothing of the token that they have now.
  if (answer.status === 401 && authorized().Authorization === asked.Authorization) tokenRefused();
  return answer;
}

export const read = createClient<ReadPaths>({ fetch: asCaller });
export const command = createClient<CommandPaths>({ fetch: asCaller });

type Answer<T> = { data?: T; error?: unknown; response: Response };

/** What an answer holds; raises the `ApiProblem` of one that says no, or that never came. */
export async function told<T>(asked: Promise<Answer<T>>): Promise<T> {
  const { data, error, response } = await answered(asked);
  if (!response.ok || error !== undefined) throw problemOf(response.status, error);
  return data as T;
}

async function answered<T>(asked: Promise<Answer<T>>): Promise<Answer<T>> {
  try {
    return await asked;
  } catch (fault) {
    if (fault instanceof DOMException && fault.name === "AbortError") throw fault;
    throw new ApiProblem(0, "UNREACHABLE", String(fault instanceof Error ? fault.message : fault));
  }
}
