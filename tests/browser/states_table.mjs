/**
 * Every state of every page: how it is brought about, and what must stand there then. The words are written out, so that who changes the
 * catalogue sees here what people will read. A state that can not occur on a page stands in `NEVER`, with the reason.
 */
import { api } from "./depot.mjs";
import { broken, changedElsewhere, cutOff, depotOf, failing, held, refused, unknown } from "./states_ways.mjs";

export const STATES = [
  "filled",
  "loading",
  "empty",
  "error",
  "forbidden",
  "not found",
  "stale version",
  "disconnected",
  "never reported",
  "no microgrid",
  "subtree scope",
  "flag off",
];

/** The pages, and the addresses in the code that belong to each. */
export const PAGES = {
  Depots: ["/"],
  Load: ["/depot/$depotId/"],
  Microgrid: ["/depot/$depotId/microgrid"],
  Controllers: ["/depot/$depotId/controllers"],
  Devices: ["/depot/$depotId/devices", "/depot/$depotId/devices/$deviceId"],
  Attention: ["/depot/$depotId/attention"],
  "Dead letters": ["/dead-letters", "/depot/$depotId/dead-letters"],
  Events: ["/depot/$depotId/events"],
};

/** What the folder of the states offers, and the state that shows it. */
export const COMPONENTS = { Loading: "loading", Empty: "empty", ProblemPanel: "error", Answered: "disconnected", Dialog: "filled" };

/** Words of a state that can not be held still, and where they are tested. */
export const PASSING = { "Connected again. What you see is current.": "load.mjs" };

/** Addresses that are no page of their own. */
export const FRAME = ["/signed-in", "/sign-in", "/depot/$depotId"];

const NO_EDITS = "nothing that has a version is edited here";
const NO_BINDING = "it shows no binding, and so no scope";
const NO_FLAG = "the flag is about the card's capabilities alone";
const NO_REPORT = "it shows what happened, and nothing that waits for a first report";

/** States that can not occur on a page, and why. */
export const NEVER = {
  Depots: { "not found": "a list is empty, never missing", "stale version": NO_EDITS, "flag off": NO_FLAG },
  Load: { "stale version": NO_EDITS },
  Microgrid: {
    "stale version": "a resync shows what it would change, and changes what differs then; it takes no version",
    "never reported": "it shows what is configured, and no report",
    "subtree scope": NO_BINDING,
    "flag off": NO_FLAG,
  },
  Controllers: { "flag off": NO_FLAG },
  Devices: { "stale version": NO_EDITS, "subtree scope": NO_BINDING, "flag off": NO_FLAG },
  Attention: { "stale version": NO_EDITS, "never reported": NO_REPORT, "subtree scope": NO_BINDING, "flag off": NO_FLAG },
  "Dead letters": { "stale version": NO_EDITS, "never reported": NO_REPORT, "subtree scope": NO_BINDING, "flag off": NO_FLAG },
  Events: { "stale version": NO_EDITS, "never reported": NO_REPORT, "subtree scope": NO_BINDING, "flag off": NO_FLAG },
};

const ROW = /\/api\/depot\?/;
// The card comes by itself, and with the stream.
const CARD = /\/microgrid\/card|\/stream$/;
const button = (name) => (page) => page.getByRole("button", { name, exact: true }).first().click();
const inDialog = (name) => (page) => page.getByRole("dialog").getByRole("button", { name, exact: true }).click();

/** A page of a depot of a kind. */
const of = (kind, below = "") => async () => `/depot/${(await depotOf(kind)).id}${below}`;
const search = (words) => (page) => page.getByLabel("Search by name or id").fill(words);
const PROBLEM = ["This did not work", "Try again", "INTERNAL_ERROR", "The answer could not be made."];
const REFUSED = ["Your role does not allow this", "needs the role", "Ask whoever manages access"];
const NOT_THERE = ["There is no such thing, or it is not yours to see", "To the depots"];
const LOST = ["Disconnected", "What you see is old. Trying to connect again."];
const NO_MICROGRID = ["This depot has no microgrid", "It gets one with its first circuit that has no parent and a name"];

/** Lose the connection when the page has all that it shows. */
const loses = (what) => async (page) => {
  await page.locator('[data-connection="live"]').waitFor();
  await page.getByText(what).filter({ visible: true }).first().waitFor();
  await cutOff(page);
  await page.locator('[data-banner="lost"]').waitFor();
};

/** A page that asks every now and then loses the connection, and it is time to ask again. */
const asksInVain = (what) => async (page) => {
  await page.getByText(what).filter({ visible: true }).first().waitFor();
  await cutOff(page);
  await page.clock.runFor(25_000);
};

/** What every page of a depot has in common, by what it asks for (`asked`), and what stands on it when all is well (`there`). */
function ofDepot(page, below, asked, there) {
  return [
    { page, state: "loading", at: of("full", below), before: held(asked), words: ["Loading", "Depot state-full"] },
    { page, state: "error", at: of("full", below), before: failing(asked), words: PROBLEM },
    { page, state: "forbidden", as: "device", at: of("full", below), words: REFUSED },
    { page, state: "not found", at: async () => `/depot/state-unknown${below}`, words: NOT_THERE },
    { page, state: "disconnected", at: of("full", below), after: loses(there), words: [...LOST, there] },
  ];
}

const letterOf = async (reason) => {
  const depot = await depotOf("full");
  const { items } = await api("GET", `/api/dead-letter?depot_id=${depot.id}&reason_code=${reason}`);
  return `/depot/${depot.id}/dead-letters?reason=${reason}&letter=${items[0].dead_letter_id}`;
};
const device = (name) => async () => {
  const depot = await depotOf("full");
  return `/depot/${depot.id}/devices/${name ? depot.thing(name) : "state-no-device"}`;
};

export const TABLE = [
  {
    page: "Depots",
    state: "filled",
    at: async () => {
      for (const kind of ["full", "never", "bare", "subtree"]) await depotOf(kind);
      return "/";
    },
    words: ["Depot state-full", "1 to settle", "3 dead letters", "Peak shaving", "Fresh", "Nothing open", "depots"],
  },
  { page: "Depots", state: "loading", at: "/", before: held(ROW), words: ["Loading", "Depots"] },
  { page: "Depots", state: "empty", as: "stranger", at: "/", words: ["No depots yet", "depotgrid site import"] },
  { page: "Depots", state: "empty", at: of("full", "/../.."), after: search("no such depot"), words: ["No depot matches", "Change the search or show all depots."] },
  { page: "Depots", state: "error", at: "/", before: failing(ROW), words: PROBLEM },
  { page: "Depots", state: "forbidden", as: "device", at: "/", words: REFUSED },
  { page: "Depots", state: "disconnected", clock: true, at: of("full", "/../.."), after: asksInVain("Depot state-full"), words: ["Could not be brought up to date; what you see is older.", "Depot state-full"] },
  { page: "Depots", state: "disconnected", at: "/", before: broken(ROW), words: ["Depotgrid does not answer", "This page keeps trying", "Try again"] },
  { page: "Depots", state: "never reported", at: of("never", "/../.."), after: search("state-never"), words: ["Depot state-never", "No status yet", "Never reported"] },
  { page: "Depots", state: "no microgrid", at: of("bare", "/../.."), after: search("state-bare"), words: ["Depot state-bare", "No microgrid"] },
  { page: "Depots", state: "subtree scope", at: of("subtree", "/../.."), after: search("state-subtree"), words: ["Depot state-subtree", "+1 scope"] },

  {
    page: "Load",
    state: "filled",
    at: of("full"),
    after: (page) => page.locator(".chart canvas").waitFor(),
    words: ["Peak shaving", "ON", "Fresh", "discharges", "−120.25 kW", "74.51 %", "Rating 500 kW", "Load and capability changes", "1 thing to settle", "Live"],
  },
  ...ofDepot("Load", "", CARD, "Power sources"),
  { page: "Load", state: "loading", at: of("full"), before: held(/\/api\/depot\/state-full(\/|$)/), words: ["Loading", "state-full"] },
  { page: "Load", state: "disconnected", at: of("full"), before: broken(CARD), words: ["Depotgrid does not answer", "This page keeps trying", "Try again"] },
  {
    page: "Load",
    state: "empty",
    at: of("nothing"),
    words: ["No capability is bound or was ever reported", "Bind a controller", "This depot has no power sources", "Add its batteries", "No circuit has a controller or a reported capacity", "Nothing was reported in this time"],
  },
  { page: "Load", state: "never reported", at: of("never"), words: ["No status yet", "Never reported", "no reading"] },
  { page: "Load", state: "no microgrid", at: of("bare"), words: NO_MICROGRID },
  { page: "Load", state: "subtree scope", at: of("subtree"), words: ["Scope: Grid connection South", "Never reported"] },
  { page: "Load", state: "filled", at: of("stale"), words: ["Stale", "s old", "ON", "OFF"] },
  { page: "Load", state: "error", at: of("full"), before: unknown(/\/series/), words: ["This service does not tell series yet", "Power sources"] },
  { page: "Load", state: "flag off", at: of("flag-off"), words: ["Power sources", "Circuits"], without: ["Distributed energy resource"] },

  { page: "Microgrid", state: "filled", at: of("full", "/microgrid"), after: button("Open all"), words: ["Grid connection North", "Bay 1", "Connector 1", "Version", "Resync", "Active"] },
  {
    page: "Microgrid",
    state: "filled",
    at: of("full", "/microgrid"),
    after: async (page) => {
      await page.getByText("Diagram", { exact: true }).click();
      await page.locator(".react-flow__node").first().waitFor();
    },
    words: ["Grid connection North", "Charger circuit"],
  },
  ...ofDepot("Microgrid", "/microgrid", /\/api\/.*\/microgrid(\/structure)?$/, "Grid connection North"),
  { page: "Microgrid", state: "forbidden", at: of("full", "/microgrid"), after: button("Resync"), words: [...REFUSED, "What a resync would change"] },
  { page: "Microgrid", state: "filled", as: "admin", at: of("full", "/microgrid"), after: button("Resync"), words: ["What a resync would change", "Nothing differs. The microgrid is what its circuits say."] },
  { page: "Microgrid", state: "empty", at: of("emptied", "/microgrid"), words: ["No grid connection", "The first circuit without a parent and with a name becomes one."] },
  { page: "Microgrid", state: "no microgrid", at: of("bare", "/microgrid"), words: [...NO_MICROGRID, "Provision the microgrid"] },

  { page: "Controllers", state: "filled", at: of("full", "/controllers"), words: ["Which device owns which capability", "Enabled", "Whole site", "Peak shaving", "Fresh", "Edit", "Disable", "Delete"] },
  { page: "Controllers", state: "filled", as: "admin", at: of("full", "/controllers"), after: button("Bind a controller"), words: ["Device", "Scope", "Stale after (s)", "Measurand for Peak shaving", "Cancel"] },
  ...ofDepot("Controllers", "/controllers", /\/controller-binding\?/, "Whole site"),
  { page: "Controllers", state: "forbidden", at: of("full", "/controllers"), after: button("Disable"), words: REFUSED },
  { page: "Controllers", state: "error", at: of("full", "/controllers"), before: unknown(/\/controller-binding\?/), words: ["This service does not tell controller bindings yet."] },
  { page: "Controllers", state: "empty", at: of("nothing", "/controllers"), words: ["No controller is bound", "Bind a device to let it report peak shaving or DER."] },
  {
    page: "Controllers",
    state: "stale version",
    as: "admin",
    at: of("raced", "/controllers"),
    after: async (page) => {
      await button("Edit")(page);
      await page.getByLabel("Stale after (s)").fill("77");
      await changedElsewhere(await depotOf("raced"), { stale_after_s: 200 });
      await inDialog("Save")(page);
    },
    words: ["Somebody changed this binding while you edited it", "Yours", "Current", "77", "Save mine over it", "Take the current one"],
  },
  {
    page: "Controllers",
    state: "stale version",
    as: "admin",
    at: of("overtaken", "/controllers"),
    // While the command is on its way, so that the page can not have heard of it before.
    before: (page) =>
      page.route(/\/controller-binding\//, async (route) => {
        await changedElsewhere(await depotOf("overtaken"), { stale_after_s: 240 });
        await route.continue();
      }),
    after: button("Disable"),
    words: ["Somebody was faster", "Nothing was changed.", "VERSION_CONFLICT", "4 min"],
  },
  { page: "Controllers", state: "never reported", at: of("never", "/controllers"), words: ["Never reported", "Whole site"] },
  { page: "Controllers", state: "no microgrid", at: of("bare", "/controllers"), words: NO_MICROGRID },
  { page: "Controllers", state: "subtree scope", at: of("subtree", "/controllers"), words: ["Grid connection South", "Whole site"] },

  { page: "Devices", state: "filled", at: of("full", "/devices"), words: ["Gateway", "state-full-ctrl-1", "bba-microgrid-controller", "Enabled"] },
  {
    page: "Devices",
    state: "filled",
    at: device("ctrl-1"),
    words: ["Last packets", "Latest measurements", "Sensor actions", "APPLIED", "1 dead letter", "All devices"],
  },
  ...ofDepot("Devices", "/devices", /\/api\/(gateway|device)\?/, "state-full-ctrl-1"),
  { page: "Devices", state: "not found", at: device(null), words: ["There is no such thing, or it is not yours to see"] },
  { page: "Devices", state: "empty", at: of("nothing", "/devices"), words: ["No gateways and no devices", "Add them with a site file"] },
  { page: "Devices", state: "never reported", at: device("ctrl-2"), words: ["No packet of this device came yet", "What it sends stands here within seconds.", "Nothing was measured yet", "This device has no sensor actions"] },
  { page: "Devices", state: "no microgrid", at: of("bare", "/devices"), words: ["state-bare-ctrl-1", "Enabled"] },

  { page: "Attention", state: "filled", at: of("full", "/attention"), words: ["AMBIGUOUS_CIRCUIT_POWER_SOURCE", "What to do:", "state-full-lost", "once"] },
  ...ofDepot("Attention", "/attention", /\/remediation/, "What to do:"),
  { page: "Attention", state: "empty", at: of("never", "/attention"), words: ["Nothing to settle", "Every report found its target."] },
  { page: "Attention", state: "no microgrid", at: of("bare", "/attention"), words: ["Nothing to settle"] },

  { page: "Dead letters", state: "filled", at: of("full", "/dead-letters"), words: ["INVALID_VALUE", "MALFORMED_JSON", "What was refused, grouped by cause.", "Status"] },
  { page: "Dead letters", state: "filled", at: async () => (await depotOf("full"), "/dead-letters"), words: ["Dead letters", "INVALID_VALUE", "What was refused, grouped by cause."] },
  { page: "Dead letters", state: "filled", at: of("full", "/dead-letters?reason=INVALID_VALUE"), words: ["All causes", "1 letter", "Dry run", "Replay", "Discard", "Pending"] },
  { page: "Dead letters", state: "filled", at: async () => letterOf("MALFORMED_JSON"), words: ["Body", "History", "Headers", '{"broken":', "Pending"] },
  ...ofDepot("Dead letters", "/dead-letters", /\/api\/dead-letter\?/, "INVALID_VALUE"),
  {
    page: "Dead letters",
    state: "disconnected",
    clock: true,
    at: async () => (await depotOf("full"), "/dead-letters"),
    after: asksInVain("INVALID_VALUE"),
    words: ["Could not be brought up to date; what you see is older.", "INVALID_VALUE"],
  },
  { page: "Dead letters", state: "forbidden", at: of("full", "/dead-letters?reason=INVALID_VALUE"), after: button("Dry run"), words: [...REFUSED, "Dry run, nothing is written"] },
  {
    page: "Dead letters",
    state: "error",
    as: "operator",
    at: of("full", "/dead-letters?reason=INVALID_VALUE"),
    before: unknown(/\/replay/),
    after: button("Dry run"),
    words: ["This service does not replay or discard over HTTP yet"],
  },
  { page: "Dead letters", state: "not found", at: of("full", "/dead-letters?letter=01890000-0000-7000-8000-000000000000"), words: ["There is no such thing, or it is not yours to see"] },
  { page: "Dead letters", state: "empty", at: of("never", "/dead-letters"), words: ["No dead letters", "Everything that came was taken."] },
  { page: "Dead letters", state: "empty", at: of("never", "/dead-letters?status=DISCARDED"), words: ["No letter fits the filters", "Choose another status"] },
  { page: "Dead letters", state: "no microgrid", at: of("bare", "/dead-letters"), words: ["No dead letters"] },

  { page: "Events", state: "filled", at: of("full", "/events"), words: ["CapabilityStatusReported", "What happened in this microgrid", "Observed", "Recorded"] },
  ...ofDepot("Events", "/events", /\/event\?/, "CapabilityStatusReported"),
  { page: "Events", state: "empty", at: of("full", "/events?type=MicrogridRetired"), words: ["No events", "Nothing happened that fits the filters.", "Clear filters"] },
  { page: "Events", state: "no microgrid", at: of("bare", "/events"), words: NO_MICROGRID },

  { page: "Frame", state: "sign-in", as: null, at: "/", words: ["Sign in", "These pages show and change real sites."] },
  { page: "Frame", state: "sign-in ended", at: of("full", "/devices"), after: endsSignIn, words: ["Your sign-in has ended.", "sign in again to go on", "Depot state-full"] },
  { page: "Frame", state: "leaving to sign in", as: null, at: "/sign-in", before: held(/openid-configuration/), words: ["Going to the sign-in page"] },
  { page: "Frame", state: "finishing a sign-in", as: null, at: "/signed-in?code=c&state=s", before: waitingSignIn, words: ["Finishing your sign-in"] },
  { page: "Frame", state: "mixed up sign-in", as: null, at: "/signed-in?code=c&state=s", words: ["does not belong to a question of this window"] },
  { page: "Frame", state: "no such page", at: "/no-such-page", words: ["There is no such page", "To the depots"] },
  {
    page: "Frame",
    state: "crashed",
    complains: true,
    at: "/",
    before: (page) => page.route(ROW, (route) => route.fulfill({ json: { items: [null], next: null } })),
    words: ["This page has met a fault of its own", "Load it anew."],
  },
  { page: "Frame", state: "away from the start", at: "/", before: broken(/web-config/), words: ["Depotgrid does not answer", "This page keeps trying"] },
];

async function endsSignIn(page) {
  await page.getByText("state-full-ctrl-1").first().waitFor();
  await refused(/\/api\//, 401, "TOKEN_EXPIRED", "the token was good until just now")(page);
  await page.getByRole("link", { name: "Controllers" }).click();
}

async function waitingSignIn(page) {
  const pending = { state: "s", verifier: "v", returnTo: "/", beside: false, tokenEndpoint: "/held-token", clientId: "c" };
  await page.addInitScript((value) => sessionStorage.setItem("depotgrid-sign-in", value), JSON.stringify(pending));
  await page.route(/held-token/, () => {});
}
