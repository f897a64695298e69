/** What surrounds every page: name, navigation, sign-in, colours and clock; and what stands in for a page until somebody is signed in. */
import { Button, useComputedColorScheme, useMantineColorScheme } from "@mantine/core";
import { Link, Outlet, useRouterState } from "@tanstack/react-router";
import { type ReactNode, useEffect, useState, useSyncExternalStore } from "react";
import { currentSession, finishSignIn, mustSignIn, signIn, signInBeside, signOut, watchSession } from "./api/session.ts";
import { Bolt, Clock, Lock, Moon, Sun, Warning } from "./look/icons.tsx";
import { router } from "./routes.tsx";
import { setUtc, useUtc } from "./shown/shown.tsx";
import { words } from "./words.ts";

export function Frame() {
  const session = useSyncExternalStore(watchSession, currentSession);
  const away = useRouterState({ select: (state) => ["/sign-in", "/signed-in"].includes(state.location.pathname) });
  return (
    <div className="frame">
      <a className="skip" href="#content">
        {words.skip}
      </a>
      <AccessStrip />
      <header className="top">
        <div className="top-in">
          <Link to="/" className="name">
            <Bolt size={20} />
            {words.product}
          </Link>
          <nav className="tabs" aria-label={words.nav.main}>
            <NavLink to="/" exact>
              {words.nav.depots}
            </NavLink>
            <NavLink to="/dead-letters">{words.nav.deadLetters}</NavLink>
          </nav>
          <div className="tools">
            <ClockTool />
            <ThemeTool />
            {session.token ? (
              <button type="button" className="tool" onClick={signOut}>
                {words.access.signOut}
              </button>
            ) : null}
          </div>
        </div>
      </header>
      <main id="content" tabIndex={-1} style={{ flex: 1, display: "flex", flexDirection: "column" }}>
        {mustSignIn(session) && !away ? <SignIn ended={session.ended} /> : null}
        {/* What somebody has typed outlives a sign-in that ends. */}
        {mustSignIn(session) && !session.ended && !away ? null : <Outlet />}
      </main>
    </div>
  );
}

export function NavLink({
  to,
  params,
  exact,
  children,
}: {
  to: string;
  params?: Record<string, string>;
  exact?: boolean;
  children: ReactNode;
}) {
  return (
    <Link
      to={to}
      params={params}
      activeOptions={{ exact: exact ?? false, includeSearch: false }}
      activeProps={{ "aria-current": "page" }}
    >
      {children}
    </Link>
  );
}

function AccessStrip() {
  const { config } = useSyncExternalStore(watchSession, currentSession);
  if (config.auth === "oidc") return null;
  return (
    <aside className="strip" aria-label={words.access.label}>
      <div className="within row">
        <Warning size={14} />
        <span>{config.auth === "off" ? words.access.off : words.access.dev}</span>
      </div>
    </aside>
  );
}

function ThemeTool() {
  const { setColorScheme } = useMantineColorScheme();
  const dark = useComputedColorScheme("light", { getInitialValueInEffect: false }) === "dark";
  const label = dark ? words.theme.toLight : words.theme.toDark;
  return (
    <button
      type="button"
      className="tool"
      aria-label={label}
      title={label}
      onClick={() => setColorScheme(dark ? "light" : "dark")}
    >
      {dark ? <Sun size={18} /> : <Moon size={18} />}
    </button>
  );
}

function ClockTool() {
  const utc = useUtc();
  const label = utc ? words.clock.toZone : words.clock.toUtc;
  return (
    <button type="button" className="tool" aria-pressed={utc} title={label} onClick={() => setUtc(!utc)}>
      <Clock size={16} />
      {utc ? words.clock.utc : words.clock.zone}
    </button>
  );
}

function SignIn({ ended }: { ended: boolean }) {
  const [fault, setFault] = useState<string | null>(null);
  const here = () => window.location.pathname + window.location.search;
  return (
    <div className="within" style={{ paddingBlock: "2rem" }}>
      <section
        className="panel stack"
        style={{ maxWidth: "34rem", marginInline: "auto" }}
        role={ended ? "alert" : undefined}
      >
        <div className="row">
          <Lock size={22} />
          <h1>{words.access.title}</h1>
        </div>
        <p>{ended ? words.access.ended : words.access.why}</p>
        {fault === null ? null : (
          <p className="banner bad" role="alert">
            {fault}
          </p>
        )}
        <div>
          <Button
            onClick={() =>
              ended ? signInBeside() : signIn(here()).catch((error: unknown) => setFault(saidBy(error)))
            }
          >
            {words.access.signIn}
          </Button>
        </div>
      </section>
    </div>
  );
}

function saidBy(error: unknown): string {
  const said = error instanceof Error ? error.message : String(error);
  if (said === "NO_CLIENT") return words.access.noClient;
  return said === "MIXED_UP" ? words.access.mixedUp : `${words.access.failed}: ${said}`;
}

function Underway({ children }: { children: string }) {
  return (
    <section className="panel stack narrow" role="status">
      <div className="row">
        <Lock size={22} />
        <h1>{children}</h1>
      </div>
    </section>
  );
}

/** The second window, which signs in for one whose sign-in has ended. */
export function SignInBeside() {
  const [fault, setFault] = useState<string | null>(null);
  useEffect(() => {
    signIn("/", true).catch((error: unknown) => setFault(saidBy(error)));
  }, []);
  return (
    <div className="within content">
      {fault === null ? (
        <Underway>{words.access.leaving}</Underway>
      ) : (
        <p className="banner bad" role="alert">
          {fault}
        </p>
      )}
    </div>
  );
}

/** Where the issuer sends people back to. */
export function SignedIn() {
  const [fault, setFault] = useState<string | null>(null);
  useEffect(() => {
    finishSignIn(window.location.search).then(
      (returnTo) => router.history.replace(returnTo),
      (error: unknown) => setFault(saidBy(error)),
    );
  }, []);
  return (
    <div className="within content">
      {fault === null ? (
        <Underway>{words.access.finishing}</Underway>
      ) : (
        <>
          <p className="banner bad" role="alert">
            {fault}
          </p>
          <SignIn ended={false} />
        </>
      )}
    </div>
  );
}

export function NoSuchPage() {
  return (
    <div className="within content">
      <section className="panel stack">
        <h1>{words.fault.page}</h1>
        <p>
          <Link to="/">{words.fault.toDepots}</Link>
        </p>
      </section>
    </div>
  );
}

export function Crashed({ error }: { error: unknown }) {
  return (
    <div className="within content">
      <section className="panel stack" role="alert">
        <h1>{words.fault.crashed}</h1>
        <p className="dim">{words.fault.crashedDo}</p>
        <pre>{error instanceof Error ? error.message : String(error)}</pre>
      </section>
    </div>
  );
}
