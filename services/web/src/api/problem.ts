/** What the API said no with (RFC 9457), as a value that pages can show; also the silence of a service that is away. */

export type Fault = { pointer: string; code: string; detail: string };

export class ApiProblem extends Error {
  readonly status: number;
  readonly code: string;
  readonly detail: string;
  readonly faults: readonly Fault[];
  /** The whole answer: some refusals carry the current document. */
  readonly document: unknown;

  constructor(status: number, code: string, detail: string, faults: readonly Fault[] = [], document: unknown = null) {
    super(detail);
    this.status = status;
    this.code = code;
    this.detail = detail;
    this.faults = faults;
    this.document = document;
  }

  /** Whether the same question may be answered a moment later. */
  get passing(): boolean {
    return this.status === 0 || this.status === 503 || this.status === 502 || this.status === 504;
  }
}

/** A problem out of an answer's status and parsed body, whatever came. */
export function problemOf(status: number, body: unknown): ApiProblem {
  const said = (typeof body === "object" && body !== null ? body : {}) as Record<string, unknown>;
  const text = (value: unknown, otherwise: string) => (typeof value === "string" && value ? value : otherwise);
  const faults = Array.isArray(said.errors) ? (said.errors as Fault[]) : [];
  return new ApiProblem(
    status,
    text(said.code, `HTTP_${status}`),
    text(said.detail, text(said.title, "")),
    faults,
    body,
  );
}

/**
 * The faults of a form, by field. `fields` maps a pointer to the name of the field that shows it; a fault belongs to the longest pointer
 * that it lies under. What belongs to no field is given back apart, so that nothing is swallowed. A problem without a list of faults
 * is one fault without a pointer.
 */
export function faultsByField(
  problem: ApiProblem,
  fields: Readonly<Record<string, string>>,
): { at: Record<string, string>; rest: string[] } {
  const at: Record<string, string> = {};
  const rest: string[] = [];
  const pointers = Object.keys(fields).sort((a, b) => b.length - a.length);
  const all = problem.faults.length ? problem.faults : [{ pointer: "", code: problem.code, detail: problem.detail }];
  for (const fault of all) {
    const under = pointers.find((one) => fault.pointer === one || fault.pointer.startsWith(`${one}/`));
    const field = under === undefined ? undefined : fields[under];
    const said = `${fault.detail} (${fault.code})`;
    if (field === undefined) rest.push(said);
    else at[field] = at[field] ? `${at[field]} ${said}` : said;
  }
  return { at, rest };
}
