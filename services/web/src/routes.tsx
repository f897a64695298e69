/** Which address is which page. Each page is loaded when it is first opened. */
import { createRootRoute, createRoute, createRouter, lazyRouteComponent } from "@tanstack/react-router";
import { Crashed, Frame, NoSuchPage, SignedIn, SignInBeside } from "./frame.tsx";
import { Loading } from "./states/states.tsx";

const root = createRootRoute({ component: Frame, notFoundComponent: NoSuchPage, errorComponent: Crashed });

const depots = createRoute({
  getParentRoute: () => root,
  path: "/",
  component: lazyRouteComponent(() => import("./pages/depots.tsx"), "DepotsPage"),
});
const signedIn = createRoute({ getParentRoute: () => root, path: "/signed-in", component: SignedIn });
const signInBeside = createRoute({ getParentRoute: () => root, path: "/sign-in", component: SignInBeside });

const words = (search: Record<string, unknown>, ...names: string[]): Record<string, string> =>
  Object.fromEntries(
    names.flatMap((name) => (typeof search[name] === "string" && search[name] ? [[name, search[name]]] : [])),
  );

export type LetterSearch = {
  depot?: string;
  reason?: string;
  device?: string;
  stage?: string;
  status?: string;
  letter?: string;
};
const letterSearch = (search: Record<string, unknown>): LetterSearch =>
  words(search, "depot", "reason", "device", "stage", "status", "letter");
const deadLettersPage = lazyRouteComponent(
  () => import("./pages/dead_letters/dead_letters_page.tsx"),
  "DeadLettersPage",
);
const deadLetters = createRoute({
  getParentRoute: () => root,
  path: "/dead-letters",
  validateSearch: letterSearch,
  component: deadLettersPage,
});

const depot = createRoute({
  getParentRoute: () => root,
  path: "/depot/$depotId",
  component: lazyRouteComponent(() => import("./depot_frame.tsx"), "DepotFrame"),
});
const below = <P extends string>(path: P, component: Parameters<typeof createRoute>[0]["component"]) =>
  createRoute({ getParentRoute: () => depot, path, component });

export type EventSearch = { type?: string; from?: string; to?: string };

const depotPages = [
  below(
    "/",
    lazyRouteComponent(() => import("./pages/load/load_page.tsx"), "LoadPage"),
  ),
  below(
    "/microgrid",
    lazyRouteComponent(() => import("./pages/microgrid/microgrid_page.tsx"), "MicrogridPage"),
  ),
  below(
    "/controllers",
    lazyRouteComponent(() => import("./pages/controllers/controllers_page.tsx"), "ControllersPage"),
  ),
  below(
    "/devices",
    lazyRouteComponent(() => import("./pages/devices/devices_page.tsx"), "DevicesPage"),
  ),
  below(
    "/devices/$deviceId",
    lazyRouteComponent(() => import("./pages/devices/device_page.tsx"), "DevicePage"),
  ),
  below(
    "/attention",
    lazyRouteComponent(() => import("./pages/attention.tsx"), "AttentionPage"),
  ),
  createRoute({
    getParentRoute: () => depot,
    path: "/events",
    validateSearch: (search: Record<string, unknown>): EventSearch => words(search, "type", "from", "to"),
    component: lazyRouteComponent(() => import("./pages/events.tsx"), "EventsPage"),
  }),
  createRoute({
    getParentRoute: () => depot,
    path: "/dead-letters",
    validateSearch: letterSearch,
    component: deadLettersPage,
  }),
];

export const router = createRouter({
  routeTree: root.addChildren([depots, signedIn, signInBeside, deadLetters, depot.addChildren(depotPages)]),
  defaultPendingComponent: () => (
    <div className="within content">
      <Loading />
    </div>
  ),
  defaultErrorComponent: Crashed,
  defaultPreload: "intent",
  scrollRestoration: true,
});
