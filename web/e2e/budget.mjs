// What the first visit costs: every byte until somebody who is signed in sees the gallery, but for their own pictures.
import assert from "node:assert/strict";
import { signIn, tokens, withPage } from "./harness.mjs";

const FIRST_LOAD_BYTES_MAX = 350 * 1024;

await withPage({}, async (page, context) => {
  const session = await context.newCDPSession(page);
  await session.send("Network.enable");
  const urls = new Map();
  const early = [];
  let bytes = 0;
  session.on("Network.requestWillBeSent", ({ requestId, request }) => urls.set(requestId, request.url));
  session.on("Network.loadingFinished", ({ requestId, encodedDataLength }) => {
    const url = urls.get(requestId) ?? "";
    if (new URL(url).pathname.startsWith("/assets/")) return;
    bytes += encodedDataLength;
    if (/scene|monaco|graphiql|provider/.test(url)) early.push(url);
  });
  await signIn(page, tokens.user);
  await page.waitForTimeout(500);
  assert.deepEqual(early, [], "what is needed later is loaded later");
  console.log(`first load: ${bytes} bytes in ${urls.size} requests`);
  assert.ok(bytes > 10_000 && bytes < FIRST_LOAD_BYTES_MAX, `${bytes} bytes`);
});
