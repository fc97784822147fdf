// Follows a subscription, or runs another operation, with the reference clients of the two protocols.
//
//     ORFEAS_TOKEN=… node follow.mjs sse|ws URL DOCUMENT [VARIABLES]
//
// Prints each answer as a line of JSON and ends with the operation; exits 1 with what went wrong if it doesn't get there.
import { createRequire } from "node:module";

const installed = createRequire(new URL("../../.deps/node/package.json", import.meta.url));
const [protocol, url, query, variables = "{}"] = process.argv.slice(2);
const authorization = `Bearer ${process.env.ORFEAS_TOKEN}`;

function open() {
  if (protocol === "sse") {
    return installed("graphql-sse").createClient({ url, headers: { authorization }, retryAttempts: 0 });
  }
  const webSocketImpl = installed("ws");
  return installed("graphql-ws").createClient({
    url: url.replace(/^http/, "ws"),
    webSocketImpl,
    connectionParams: { authorization },
    retryAttempts: 0,
  });
}

const client = open();
const sink = {
  next: (answer) => console.log(JSON.stringify(answer)),
  error: (error) => {
    const words = Array.isArray(error) ? JSON.stringify(error) : (error?.message ?? error?.reason ?? String(error));
    console.error(words);
    process.exitCode = 1;
    client.dispose();
  },
  complete: () => client.dispose(),
};
client.subscribe({ query, variables: JSON.parse(variables) }, sink);
