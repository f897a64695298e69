/**
 * Server-sent events out of a stream of text, as the HTML standard reads them, but for `retry`, which we decide ourselves.
 *
 * Lines end with CR, LF or both, also where a chunk ends between the two. An empty line sends off what was gathered; without data nothing
 * is sent, yet an id counts all the same. A comment (a line that begins with a colon) tells only that the connection lives. An id with
 * U+0000 is ignored. What was begun and not ended by an empty line is never sent.
 */

export type ServerSentEvent = { event: string; data: string };

export class EventReader {
  /** The last id that was completed, to resume with. */
  lastId: string | null = null;
  #rest = "";
  #afterCr = false;
  #event = "";
  #data: string[] = [];
  #id: string | null = null;

  /** What a further piece of text completes. */
  read(piece: string): ServerSentEvent[] {
    const complete: ServerSentEvent[] = [];
    let text = this.#rest + (this.#afterCr && piece.startsWith("\n") ? piece.slice(1) : piece);
    if (piece !== "") this.#afterCr = false;
    for (let end = text.search(/[\r\n]/); end >= 0; end = text.search(/[\r\n]/)) {
      const line = text.slice(0, end);
      const both = text[end] === "\r" && text[end + 1] === "\n";
      this.#afterCr = text[end] === "\r" && end + 1 === text.length;
      text = text.slice(end + (both ? 2 : 1));
      const sent = this.#line(line);
      if (sent) complete.push(sent);
    }
    this.#rest = text;
    return complete;
  }

  #line(line: string): ServerSentEvent | null {
    if (line === "") return this.#sendOff();
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "data") this.#data.push(value);
    else if (field === "event") this.#event = value;
    else if (field === "id" && !value.includes("\0")) this.#id = value;
    return null;
  }

  #sendOff(): ServerSentEvent | null {
    if (this.#id !== null) this.lastId = this.#id;
    const sent = this.#data.length ? { event: this.#event || "message", data: this.#data.join("\n") } : null;
    this.#event = "";
    this.#data = [];
    this.#id = null;
    return sent;
  }
}
