// Holds GraphQL servers against the audits of the npm package graphql-http, side by side.
//
//     ORFEAS_TOKEN=… node audit-graphql.mjs [--json] NAME=URL... [yoga]
//
// `yoga` is a GraphQL Yoga that is started for the occasion. Prints a table in Markdown: how many audits each server
// passes, and those that not all of them pass; with --json the same and the outcome of each audit: { table, audits }.
import { createServer } from "node:http";
import { createRequire } from "node:module";

const installed = createRequire(new URL("../../.deps/node/package.json", import.meta.url));
const { serverAudits } = installed("graphql-http");

const words = process.argv.slice(2);
const isJson = words[0] === "--json";
const servers = words.slice(isJson ? 1 : 0).map((word) => {
  const at = word.indexOf("=");
  return at < 0 ? { name: word } : { name: word.slice(0, at), url: word.slice(at + 1) };
});
if (servers.length === 0) {
  console.error("usage: audit-graphql.mjs [--json] NAME=URL... [yoga]");
  process.exit(2);
}

const authorization = process.env.ORFEAS_TOKEN ? { authorization: `Bearer ${process.env.ORFEAS_TOKEN}` } : {};
const fetchFn = (url, init) => fetch(url, { ...init, headers: { ...init?.headers, ...authorization } });

async function outcomes(url) {
  const found = new Map();
  for (const audit of serverAudits({ url, fetchFn })) {
    const { status } = await audit.fn();
    found.set(audit.id, { name: audit.name, status });
  }
  return found;
}

async function startYoga() {
  const { createSchema, createYoga } = installed("graphql-yoga");
  const typeDefs = "type Query { hello: String! } type Mutation { greet: String! }";
  const resolvers = { Query: { hello: () => "hello" }, Mutation: { greet: () => "hello" } };
  const server = createServer(createYoga({ schema: createSchema({ typeDefs, resolvers }), logging: false }));
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  return { server, url: `http://127.0.0.1:${server.address().port}/graphql` };
}

for (const server of servers) {
  if (server.url) {
    server.outcomes = await outcomes(server.url);
  } else {
    const yoga = await startYoga();
    server.outcomes = await outcomes(yoga.url);
    yoga.server.closeAllConnections();
    yoga.server.close();
  }
}

const audits = [...servers[0].outcomes].map(([id, { name }]) => ({
  id,
  name,
  outcomes: Object.fromEntries(servers.map((server) => [server.name, server.outcomes.get(id).status])),
}));
const passed = (server) => audits.filter((audit) => audit.outcomes[server.name] === "ok").length;
const row = (...cells) => `| ${cells.join(" | ")} |`;
const table = [
  row("audit", ...servers.map((server) => server.name)),
  row("---", ...servers.map(() => "---")),
  row(`passed, of ${audits.length}`, ...servers.map((server) => String(passed(server)))),
  ...audits
    .filter((audit) => Object.values(audit.outcomes).some((outcome) => outcome !== "ok"))
    .map((audit) => row(`${audit.id}: ${audit.name}`, ...servers.map((server) => audit.outcomes[server.name]))),
].join("\n");
console.log(isJson ? JSON.stringify({ table, audits }) : table);
