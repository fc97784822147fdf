/** The GraphQL client: queries, mutations and uploads over HTTP, subscriptions over one WebSocket. */
import { Client, fetchExchange, subscriptionExchange } from "@urql/core";
import type { AnyVariables, OperationResult, TypedDocumentNode } from "@urql/core";
import { createClient as createSocket } from "graphql-ws";
import type { Client as Socket } from "graphql-ws";
import { onEnd as onSourceEnd, pipe, subscribe } from "wonka";
import { failureOf } from "./errors";
import type { Failure } from "./errors";

export type LinkState = "closed" | "open" | "lost";

export interface Connection {
  run<Data, Variables extends AnyVariables>(document: TypedDocumentNode<Data, Variables>, variables: Variables): Promise<Data>;
  follow<Data, Variables extends AnyVariables>(
    document: TypedDocumentNode<Data, Variables>,
    variables: Variables,
    onData: (data: Data) => void,
    onEnd: (failure: Failure | null) => void,
  ): () => void;
  close(): void;
}

export interface ConnectionEvents {
  /** The token counts no longer. */
  onSignedOut(): void;
  onLink(state: LinkState): void;
}

/** Pauses between attempts to reconnect: quick at first, then half a minute at most. */
async function pause(attempt: number): Promise<void> {
  const longest = Math.min(500 * 2 ** attempt, 30_000);
  await new Promise((wake) => setTimeout(wake, longest * (0.5 + Math.random() / 2)));
}

function openSocket(token: string, events: ConnectionEvents): Socket {
  const address = new URL("/graphql", location.href);
  address.protocol = address.protocol.replace("http", "ws");
  return createSocket({
    url: address.href,
    connectionParams: { authorization: `Bearer ${token}` },
    keepAlive: 20_000,
    lazyCloseTimeout: 5_000,
    retryAttempts: Number.POSITIVE_INFINITY,
    retryWait: pause,
    // Whatever the network does, the answer is to try again; only a refused sign-in is final.
    shouldRetry: (reason) => !(reason instanceof CloseEvent && reason.code === 4403),
    on: {
      connected: () => events.onLink("open"),
      closed: (reason) => {
        const code = reason instanceof CloseEvent ? reason.code : 0;
        if (code === 4403) events.onSignedOut();
        events.onLink(code === 1000 ? "closed" : "lost");
      },
    },
  });
}

export function connect(token: string, events: ConnectionEvents): Connection {
  const socket = openSocket(token, events);
  const client = new Client({
    url: "/graphql",
    preferGetMethod: false,
    requestPolicy: "network-only",
    // A form (multipart) is refused without a field that other sites' pages can't send.
    fetchOptions: { headers: { authorization: `Bearer ${token}`, "graphql-preflight": "1" } },
    exchanges: [
      fetchExchange,
      subscriptionExchange({
        forwardSubscription: (request) => ({
          subscribe: (sink) => ({
            unsubscribe: socket.subscribe({ ...request, query: request.query ?? "" }, sink),
          }),
        }),
      }),
    ],
  });

  function checked<Data>(result: OperationResult<Data, AnyVariables>): Data {
    const failure = failureOf(result.error);
    if (failure?.code === "UNAUTHENTICATED") events.onSignedOut();
    if (failure !== null) throw failure;
    return result.data as Data;
  }

  return {
    async run(document, variables) {
      const kind = document.definitions.find((definition) => definition.kind === "OperationDefinition");
      const source =
        kind?.operation === "mutation" ? client.mutation(document, variables) : client.query(document, variables);
      return checked(await source.toPromise());
    },
    follow(document, variables, onData, onEnd) {
      let failure: Failure | null = null;
      let isOver = false;
      const end = (): void => {
        if (isOver) return;
        isOver = true;
        onEnd(failure);
      };
      const { unsubscribe } = pipe(
        client.subscription(document, variables),
        onSourceEnd(end),
        subscribe((result) => {
          failure = failureOf(result.error);
          // The last answer comes once more when the subscription completes.
          if (failure === null && result.hasNext) onData(result.data as never);
          if (failure !== null) end();
        }),
      );
      return () => {
        isOver = true;
        unsubscribe();
      };
    },
    close() {
      void socket.dispose();
    },
  };
}
