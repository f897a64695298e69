import "./look/mantine.css";
import "./look/look.css";
import { MantineProvider } from "@mantine/core";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { askAnew } from "./api/ask_anew.ts";
import { ApiProblem } from "./api/problem.ts";
import { currentSession, openSession, watchSession } from "./api/session.ts";
import { router } from "./routes.tsx";
import { ProblemPanel } from "./states/states.tsx";
import { words } from "./words.ts";

const AGAIN_MS = 10_000;

const client = new QueryClient({
  defaultOptions: {
    queries: {
      // What is away for a moment is asked again; a refusal stands.
      retry: (times, fault) => fault instanceof ApiProblem && fault.passing && times < 6,
      retryDelay: (times) => Math.min(500 * 2 ** times, 8_000),
      networkMode: "always",
      refetchOnWindowFocus: true,
      // What did not answer is asked again, however long it is away.
      refetchInterval: (query) => (query.state.error instanceof ApiProblem && query.state.error.passing ? AGAIN_MS : false),
      staleTime: 5_000,
    },
    mutations: { networkMode: "always" },
  },
});

// What was refused while nobody was signed in is asked anew.
let ended = false;
watchSession(() => {
  const now = currentSession();
  if (ended && now.token !== null) void askAnew(client, []);
  ended = now.ended;
});

const place = createRoot(document.getElementById("root") as HTMLElement);

async function start(): Promise<void> {
  try {
    await openSession();
  } catch {
    place.render(
      <Provided>
        <main className="within content">
          <h1 className="hidden">{words.product}</h1>
          <ProblemPanel of={new ApiProblem(0, "UNREACHABLE", "")} retry={() => window.location.reload()} />
        </main>
      </Provided>,
    );
    setTimeout(() => void start(), 3_000);
    return;
  }
  place.render(
    <StrictMode>
      <Provided>
        <QueryClientProvider client={client}>
          <RouterProvider router={router} />
        </QueryClientProvider>
      </Provided>
    </StrictMode>,
  );
}

// The theme is Mantine's own with our colours from look.css: no style element is ever written into the page, as its policy demands.
function Provided({ children }: { children: React.ReactNode }) {
  return (
    <MantineProvider defaultColorScheme="auto" withCssVariables={false} withGlobalClasses={false}>
      {children}
    </MantineProvider>
  );
}

void start();
