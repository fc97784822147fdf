// The server is killed under an open page, with conversions on their way, and comes back. Whoever started this program
// does that: it is told by a line `kill` or `start`, and answers with a line when it is done.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { done, picture, server, signIn, tokens, withPage } from "./harness.mjs";

const NAMES = ["truck", "chest", "house", "chair", "dinner", "truck"];
const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

async function have(order) {
  console.log(order);
  await answers.next();
}

/** What went over the WebSockets, by conversion: how its following began each time, and what it was told. */
function listen(page) {
  const heard = new Map();
  const of = (id) => heard.get(id) ?? heard.set(id, { begun: [], steps: [] }).get(id);
  page.on("websocket", (socket) => {
    socket.on("framesent", ({ payload }) => {
      const { type, payload: sent } = JSON.parse(payload);
      if (type === "subscribe" && sent.variables.id) of(sent.variables.id).begun.push(sent.variables.after);
    });
    socket.on("framereceived", ({ payload }) => {
      const { type, payload: came } = JSON.parse(payload);
      const step = type === "next" ? came.data?.conversionProgress : undefined;
      if (step) of(step.conversionId).steps.push(step);
    });
  });
  return heard;
}

async function query(text) {
  const answer = await fetch(`${server}/graphql`, {
    method: "POST",
    headers: { authorization: `Bearer ${tokens.user}`, "content-type": "application/json" },
    body: JSON.stringify({ query: text }),
  });
  return (await answer.json()).data;
}

// Chromium reports what it can't reach while nobody is there.
const expected = [/console: Failed to load resource/, /console: WebSocket connection/];
await withPage({ expected }, async (page) => {
  const heard = listen(page);
  await signIn(page, tokens.user);
  const files = await Promise.all(NAMES.map(async (name, index) => ({ name: `${index}.png`, mimeType: "image/png", buffer: await readFile(picture(name)) })));
  await page.locator("#files").setInputFiles(files);
  await page.getByRole("button", { name: `Convert ${NAMES.length} pictures` }).click();
  await page.getByText(/Looking at it|Imagining the shape/).first().waitFor();

  await have("kill");
  await page.getByText("The connection to the server is lost").waitFor();
  assert.equal(await page.locator(".card").count(), NAMES.length, "what was there stays on the screen");
  await have("start");
  await page.locator(".banner").waitFor({ state: "detached" });
  await done(page).nth(NAMES.length - 1).waitFor({ timeout: 300_000 });

  assert.equal(await page.locator(".card").count(), NAMES.length, "nothing is lost or doubled");
  const { conversions } = await query("{ conversions(first: 100) { nodes { id status attempts } } }");
  assert.deepEqual(conversions.nodes.map(({ status }) => status), NAMES.map(() => "SUCCEEDED"));
  assert.ok(conversions.nodes.some(({ attempts }) => attempts > 1), "something was running when the server was killed");
  assert.equal(heard.size, NAMES.length);
  for (const [id, { begun, steps }] of heard) {
    assert.ok(begun.every(Number.isInteger), `${id} is followed from what is known: ${begun}`);
    const sequences = steps.map(({ sequence }) => sequence);
    const stored = [...new Set(sequences)];
    assert.deepEqual(sequences, sequences.toSorted((one, other) => one - other), `${id} never goes back`);
    assert.deepEqual(stored, stored.map((_, index) => begun[0] + 1 + index), `${id} misses no step`);
    const ends = steps.filter(({ status }) => status === "SUCCEEDED");
    assert.equal(ends.length, 1, `${id} ends once`);
  }
  const resumed = [...heard.values()].filter(({ begun }) => begun.length > 1);
  assert.ok(resumed.length > 0 && resumed.every(({ begun }) => begun.at(-1) >= begun[0]), "following went on after the break");
  await page.locator(".notice.error").first().waitFor({ state: "detached", timeout: 20_000 });
});
process.exit(0);
