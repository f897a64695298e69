/**
 * A microgrid's stream, kept open as long as somebody listens.
 *
 * It is read with fetch, so that the access token travels in its header. When it ends, for whatever reason, it is opened again with the
 * last id that was seen, after a pause that doubles up to a bound and begins anew once something arrived. The server says something at
 * least every 15 s; after 40 s of silence the connection counts as dead, as it does at once when the device reports itself offline.
 * A refusal (401, 403, 404) is final: trying again would not change it.
 */
import { authorized, tokenRefused } from "../api/session.ts";
import { EventReader } from "./server_sent_events.ts";

export type Connection = { state: "connecting" | "live" | "lost"; since: number };

export type FeedListener = {
  connection: (connection: Connection) => void;
  message: (event: string, data: string) => void;
  refused: (status: number) => void;
};

const FIRST_PAUSE_MS = 300;
const LONGEST_PAUSE_MS = 5_000;
const SILENCE_MS = 40_000;
const FINAL = [401, 403, 404];

export class LiveFeed {
  #ended = false;
  #attempt = new AbortController();
  #lastId: string | null = null;
  #pause = FIRST_PAUSE_MS;
  #wake: () => void = () => undefined;
  #state: Connection = { state: "connecting", since: Date.now() };
  readonly #url: string;
  readonly #listener: FeedListener;

  constructor(url: string, listener: FeedListener) {
    this.#url = url;
    this.#listener = listener;
    window.addEventListener("offline", this.#offline);
    window.addEventListener("online", this.#online);
    void this.#run();
  }

  end(): void {
    this.#ended = true;
    window.removeEventListener("offline", this.#offline);
    window.removeEventListener("online", this.#online);
    this.#attempt.abort();
    this.#wake();
  }

  #offline = () => this.#attempt.abort();
  #online = () => {
    this.#pause = FIRST_PAUSE_MS;
    this.#wake();
  };

  async #run(): Promise<void> {
    while (!this.#ended) {
      this.#attempt = new AbortController();
      try {
        if (await this.#listen(this.#attempt)) return;
      } catch {
        // Ended by the network, by silence or by us: what matters is only that it is over.
      }
      if (this.#ended) return;
      if (this.#state.state !== "lost") this.#become("lost");
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, this.#pause * (0.75 + Math.random() / 2));
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      this.#pause = Math.min(this.#pause * 2, LONGEST_PAUSE_MS);
    }
  }

  /** True when there is no use in trying again. */
  async #listen(attempt: AbortController): Promise<boolean> {
    const silence = () => setTimeout(() => attempt.abort(), SILENCE_MS);
    let timer = silence();
    try {
      const headers: Record<string, string> = { Accept: "text/event-stream", ...authorized() };
      if (this.#lastId !== null) headers["Last-Event-ID"] = this.#lastId;
      const answer = await fetch(this.#url, { headers, signal: attempt.signal, cache: "no-store" });
      if (FINAL.includes(answer.status)) {
        if (answer.status === 401) tokenRefused();
        this.#listener.refused(answer.status);
        return true;
      }
      if (!answer.ok || !answer.body) return false;
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      const events = new EventReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return false;
        clearTimeout(timer);
        timer = silence();
        this.#pause = FIRST_PAUSE_MS;
        for (const one of events.read(value)) this.#listener.message(one.event, one.data);
        if (events.lastId !== null) this.#lastId = events.lastId;
        if (this.#state.state !== "live") this.#become("live");
      }
    } finally {
      clearTimeout(timer);
      attempt.abort();
    }
  }

  #become(state: Connection["state"]): void {
    this.#state = { state, since: Date.now() };
    if (!this.#ended) this.#listener.connection(this.#state);
  }
}
