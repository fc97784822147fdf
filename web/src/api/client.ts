/** The GraphQL client: queries, mutations and uploads over HTTP, subscriptions over one WebSocket. */
import { Client, CombinedError, fetchExchange, stringifyDocument } from "@urql/core";
import type { AnyVariables, TypedDocumentNode } from "@urql/core";
import { createClient as createSocket } from "graphql-ws";
import type { Credentials } from "./credentials";
import { asFailure, failureOf } from "./errors";
import type { Failure } from "./errors";

export type LinkState = "closed" | "open" | "lost";

export interface Connection {
  run<Data, Variables extends AnyVariables>(document: TypedDocumentNode<Data, Variables>, variables: Variables): Promise<Data>;
  follow<Data, Variables extends AnyVariables>(
    document: TypedDocumentNode<Data, Variables>,
    /** Asked at each connection, so that one after a break goes on where the last one ended. */
    variables: () => Variables,
    onData: (data: Data) => void,
    onEnd: (failure: Failure | null) => void,
  ): () => void;
  /** Opens the WebSocket anew if it was opened with a token that has been renewed since. */
  reauthenticate(): void;
  close(): void;
}

export interface ConnectionEvents {
  /** The token counts no longer. */
  onSignedOut(): void;
  onLink(state: LinkState): void;
}

/** The server's word that who was let in isn't any more. */
const FORBIDDEN = 4403;
/** What this page closes a connection with to open it anew. */
const TERMINATED = 4499;

/** Pauses between attempts to reconnect: quick at first, then half a minute at most. */
async function pause(attempt: number): Promise<void> {
  const longest = Math.min(500 * 2 ** attempt, 30_000);
  await new Promise((wake) => setTimeout(wake, longest * (0.5 + Math.random() / 2)));
}

/** What a subscription ended with. */
function endOf(reason: unknown): Failure {
  const errors = Array.isArray(reason) ? reason : [];
  return failureOf(new CombinedError({ graphQLErrors: errors })) ?? asFailure(reason);
}

export function connect(credentials: Credentials, events: ConnectionEvents): Connection {
  /** What the open connection was let in with. */
  let admitted: string | null = null;
  const address = new URL("/graphql", location.href);
  address.protocol = address.protocol.replace("http", "ws");
  const socket = createSocket({
    url: address.href,
    connectionParams: async () => {
      admitted = await credentials.fresh();
      return { authorization: `Bearer ${admitted}` };
    },
    keepAlive: 20_000,
    lazyCloseTimeout: 5_000,
    retryAttempts: Number.POSITIVE_INFINITY,
    retryWait: pause,
    // Whatever the network does, the answer is to try again; only a refused sign-in that can't be renewed is final.
    shouldRetry: (reason) => !(reason instanceof CloseEvent && reason.code === FORBIDDEN) || credentials.distrust(),
    on: {
      connected: () => events.onLink("open"),
      closed: (reason) => {
        admitted = null;
        const code = reason instanceof CloseEvent ? reason.code : (reason as { code?: number }).code;
        if (code === TERMINATED) return;
        if (code === FORBIDDEN && !credentials.distrust()) events.onSignedOut();
        events.onLink(code === 1000 ? "closed" : "lost");
      },
    },
  });
  const client = new Client({
    url: "/graphql",
    preferGetMethod: false,
    requestPolicy: "network-only",
    // A form (multipart) is refused without a field that other sites' pages can't send.
    fetchOptions: () => ({ headers: { authorization: `Bearer ${credentials.token}`, "graphql-preflight": "1" } }),
    exchanges: [fetchExchange],
  });

  async function ask<Data, Variables extends AnyVariables>(
    document: TypedDocumentNode<Data, Variables>,
    variables: Variables,
  ): Promise<Data> {
    await credentials.fresh();
    const kind = document.definitions.find((definition) => definition.kind === "OperationDefinition");
    const source =
      kind?.operation === "mutation" ? client.mutation(document, variables) : client.query(document, variables);
    const result = await source.toPromise();
    const failure = failureOf(result.error);
    if (failure !== null) throw failure;
    return result.data as Data;
  }

  return {
    async run(document, variables) {
      try {
        return await ask(document, variables);
      } catch (error) {
        if (asFailure(error).code !== "UNAUTHENTICATED") throw error;
        // Nothing was done by it, so it may be asked again with a new token, if there is one.
        if (credentials.distrust()) return await ask(document, variables);
        events.onSignedOut();
        throw error;
      }
    },
    follow<Data, Variables extends AnyVariables>(
      document: TypedDocumentNode<Data, Variables>,
      variables: () => Variables,
      onData: (data: Data) => void,
      onEnd: (failure: Failure | null) => void,
    ) {
      let isOver = false;
      const end = (failure: Failure | null): void => {
        if (isOver) return;
        isOver = true;
        onEnd(failure);
      };
      const request = {
        query: stringifyDocument(document),
        get variables() {
          return variables() as Record<string, unknown>;
        },
      };
      const stop = socket.subscribe<Data>(request, {
        next: ({ data, errors }) => {
          if (isOver) return;
          if (errors !== undefined) end(endOf(errors));
          else onData(data as Data);
        },
        error: (reason) => end(endOf(reason)),
        complete: () => end(null),
      });
      return () => {
        isOver = true;
        stop();
      };
    },
    reauthenticate() {
      if (admitted !== null && admitted !== credentials.token) socket.terminate();
    },
    close() {
      credentials.close();
      void socket.dispose();
    },
  };
}
