/**
 * A command that is said again because its answer never came must not be done twice.
 *
 * A POST carries an `Idempotency-Key`. While a person says the same thing again after silence or a failure of the server, the key stays: if
 * the first try was carried out after all, the second is told what became of it. Anything else is a new command with a new key: other
 * words, and the same words after an answer, for a refusal is remembered under its key and would only come back.
 */
import { ApiProblem } from "./problem.ts";

/** Whether a fault leaves open what became of a command. */
export const leavesOpen = (fault: unknown): boolean => fault instanceof ApiProblem && (fault.status === 0 || fault.status >= 500);

export class Once {
  #said: string | null = null;
  #key = "";

  /** The key under which something is said now. */
  keyFor(said: string): string {
    if (said !== this.#said) this.#key = crypto.randomUUID();
    this.#said = said;
    return this.#key;
  }

  /** What became of it is known, or not: `fault` is what the last try ended with, null for an answer that says yes. */
  ended(fault: unknown): void {
    if (!leavesOpen(fault)) this.#said = null;
  }

  /** Send what is said, and again under the same key where the last try of the same left open what became of it. */
  async send<T>(said: unknown, post: (header: { "Idempotency-Key": string }) => Promise<T>): Promise<T> {
    const key = this.keyFor(JSON.stringify(said));
    try {
      const answer = await post({ "Idempotency-Key": key });
      this.ended(null);
      return answer;
    } catch (fault) {
      this.ended(fault);
      throw fault;
    }
  }
}
