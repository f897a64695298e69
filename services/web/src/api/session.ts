/**
 * Who uses the pages: what the server says about sign-in (`/web-config.json`), and the access token, kept for this window alone.
 *
 * Sign-in is the authorisation-code flow with PKCE (S256). The verifier and the state wait in the window's own storage, so an answer that
 * does not belong to a question of this window is refused. With access off there is no token, and none is asked for.
 *
 * When a sign-in ends while somebody is at work, a second window signs in, hands its token to the windows of this address that have none
 * any more, and closes: leaving the page would throw away what was typed.
 */

export type AccessMode = "off" | "dev" | "oidc";
export type WebConfig = { auth: AccessMode; issuer: string | null; client_id: string | null; scope: string };
export type Session = { config: WebConfig; token: string | null; ended: boolean };

const TOKEN = "depotgrid-token";
const PENDING = "depotgrid-sign-in";
const BESIDE = "depotgrid-sign-in";
type Kept = { token: string; until: number };
type Pending = {
  state: string;
  verifier: string;
  returnTo: string;
  beside: boolean;
  tokenEndpoint: string;
  clientId: string;
};

let session: Session | null = null;
const watchers = new Set<() => void>();

export const watchSession = (watcher: () => void): (() => void) => {
  watchers.add(watcher);
  return () => watchers.delete(watcher);
};

/** The session; only to be asked after `openSession`. */
export function currentSession(): Session {
  if (!session) throw new Error("the session is not open yet");
  return session;
}

function become(next: Session): void {
  session = next;
  for (const watcher of watchers) watcher();
}

/** Ask the server how one signs in, and take up what this window already has. */
export async function openSession(): Promise<void> {
  const answer = await fetch("/web-config.json", { cache: "no-store" });
  if (!answer.ok) throw new Error(`/web-config.json: ${answer.status}`);
  const config = (await answer.json()) as WebConfig;
  become({ config, token: config.auth === "off" ? null : keptToken(), ended: false });
  new BroadcastChannel(BESIDE).onmessage = ({ data }: MessageEvent<Kept>) => {
    if (session?.ended) keep(data);
  };
}

function keep(kept: Kept): void {
  sessionStorage.setItem(TOKEN, JSON.stringify(kept));
  become({ ...currentSession(), token: kept.token, ended: false });
}

function keptToken(): string | null {
  const kept = sessionStorage.getItem(TOKEN);
  if (!kept) return null;
  const { token, until } = JSON.parse(kept) as Kept;
  return until > Date.now() ? token : null;
}

/** Whether somebody has to sign in before anything can be asked. */
export const mustSignIn = (one: Session): boolean => one.config.auth !== "off" && one.token === null;

/** The header that tells who asks. */
export function authorized(): Record<string, string> {
  return session?.token ? { Authorization: `Bearer ${session.token}` } : {};
}

/** The server did not take the token: forget it, and keep what is on the page until somebody signs in again. */
export function tokenRefused(): void {
  if (!session || session.config.auth === "off" || !session.token) return;
  sessionStorage.removeItem(TOKEN);
  become({ ...session, token: null, ended: true });
}

export function signOut(): void {
  sessionStorage.removeItem(TOKEN);
  if (session) become({ ...session, token: null, ended: false });
}

const redirectUri = () => `${window.location.origin}/signed-in`;

function encoded(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes))
    .replaceAll("+", "-")
    .replaceAll("/", "_")
    .replaceAll("=", "");
}

const randomText = () => encoded(crypto.getRandomValues(new Uint8Array(32)));

/** Sign in anew in a second window, so that this one keeps what it shows. */
export function signInBeside(): void {
  window.open("/sign-in", "_blank");
}

/** Leave for the issuer's page; comes back to `/signed-in`. `beside`: to hand the token to the other windows, and close. */
export async function signIn(returnTo: string, beside = false): Promise<void> {
  const { config } = currentSession();
  const issuer = config.auth === "dev" ? `${window.location.origin}/auth/dev` : config.issuer;
  if (!issuer || !config.client_id) throw new Error("NO_CLIENT");
  const found = await fetch(`${issuer.replace(/\/$/, "")}/.well-known/openid-configuration`);
  if (!found.ok) throw new Error(`${issuer}: ${found.status}`);
  const endpoints = (await found.json()) as { authorization_endpoint: string; token_endpoint: string };
  const pending: Pending = {
    state: randomText(),
    verifier: randomText(),
    returnTo,
    beside,
    tokenEndpoint: endpoints.token_endpoint,
    clientId: config.client_id,
  };
  sessionStorage.setItem(PENDING, JSON.stringify(pending));
  const challenge = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(pending.verifier)));
  const asked = new URLSearchParams({
    response_type: "code",
    client_id: pending.clientId,
    redirect_uri: redirectUri(),
    scope: config.scope,
    state: pending.state,
    code_challenge: encoded(challenge),
    code_challenge_method: "S256",
  });
  window.location.assign(`${endpoints.authorization_endpoint}?${asked}`);
}

let finishing: Promise<string> | null = null;

/** Take the issuer's answer out of the address; gives back where the person was. Only the first call does something. */
export function finishSignIn(query: string): Promise<string> {
  finishing ??= redeem(new URLSearchParams(query));
  return finishing;
}

async function redeem(answer: URLSearchParams): Promise<string> {
  const asked = sessionStorage.getItem(PENDING);
  sessionStorage.removeItem(PENDING);
  const pending = asked ? (JSON.parse(asked) as Pending) : null;
  if (answer.has("error")) throw new Error(answer.get("error_description") ?? answer.get("error") ?? "");
  if (!pending || answer.get("state") !== pending.state) throw new Error("MIXED_UP");
  const told = await fetch(pending.tokenEndpoint, {
    method: "POST",
    body: new URLSearchParams({
      grant_type: "authorization_code",
      code: answer.get("code") ?? "",
      redirect_uri: redirectUri(),
      client_id: pending.clientId,
      code_verifier: pending.verifier,
    }),
  });
  const document = (await told.json()) as { access_token?: string; expires_in?: number; error_description?: string };
  if (!told.ok || !document.access_token) throw new Error(document.error_description ?? String(told.status));
  const kept = { token: document.access_token, until: Date.now() + (document.expires_in ?? 3600) * 1000 };
  keep(kept);
  if (pending.beside) {
    const others = new BroadcastChannel(BESIDE);
    others.postMessage(kept);
    others.close();
    window.close();
  }
  return pending.returnTo;
}
