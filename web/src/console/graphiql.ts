import "graphiql/setup-workers/vite";
import "graphiql/style.css";
import "@graphiql/plugin-explorer/style.css";
import { explorerPlugin } from "@graphiql/plugin-explorer";
import { createGraphiQLFetcher } from "@graphiql/toolkit";
import { GraphiQL, HISTORY_PLUGIN } from "graphiql";
import { createElement } from "react";
import { createRoot } from "react-dom/client";
import { theme } from "../state/theme";
import { EXAMPLES } from "./examples";
import { EXAMPLES_PLUGIN } from "./examples-plugin";

export function openConsole(place: HTMLElement, token: string): void {
  const socket = new URL("/graphql", location.href);
  socket.protocol = socket.protocol.replace("http", "ws");
  const authorization = `Bearer ${token}`;
  // Subscriptions are signed in by what the headers editor holds, like queries.
  const send = createGraphiQLFetcher({ url: "/graphql", subscriptionUrl: socket.href });
  // Before that editor is there, and while it is empty, the token counts; `{}` in it is nobody's headers.
  const fetcher: typeof send = (operation, options) =>
    send(operation, options?.headers === undefined ? { ...options, headers: { authorization } } : options);
  const headers = JSON.stringify({ authorization }, null, 2);
  const [first] = EXAMPLES;
  const logo = createElement(GraphiQL.Logo, null, createElement("a", { className: "console-home", href: "/" }, "To the studio"));
  createRoot(place).render(
    createElement(
      GraphiQL,
      {
        fetcher,
        defaultHeaders: headers,
        initialHeaders: headers,
        defaultQuery: first.query,
        defaultEditorToolsVisibility: true,
        // The token stays where the studio put it.
        shouldPersistHeaders: false,
        showPersistHeadersSettings: false,
        forcedTheme: theme.value,
        plugins: [HISTORY_PLUGIN, explorerPlugin({ showAttribution: false }), EXAMPLES_PLUGIN],
        inputValueDeprecation: true,
      },
      logo,
    ),
  );
}
