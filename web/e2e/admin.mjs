// The admin's page and the console.
import assert from "node:assert/strict";
import { isAccessible, server, signInByLink, tokens, withPage } from "./harness.mjs";

await withPage({}, async (page) => {
  await signInByLink(page, tokens.admin, "/admin");
  await page.getByText("Done in the last minute").waitFor();
  await page.getByRole("region", { name: "Nodes" }).getByRole("row").nth(1).waitFor();

  // The harness has a second node that has lost a device.
  const nodes = page.getByRole("region", { name: "Nodes" });
  await nodes.getByText("gpu-box is degraded.").waitFor();
  await nodes.getByText("It goes on with the other one, slower.").waitFor();
  await nodes.getByText("It fell off the bus.").waitFor();

  await page.getByRole("button", { name: "New key" }).click();
  await page.getByLabel("Name").fill("robot");
  await page.getByLabel("Requests a minute").fill("7");
  await page.getByRole("button", { name: "Make the key" }).click();
  const secret = await page.locator(".secret code").nth(1).textContent();
  assert.match(secret, /^ofs_/);
  await isAccessible(page, "the admin's page");
  await page.getByText("7 requests a minute").waitFor();
  await page.getByRole("button", { name: "New secret" }).click();
  await page.waitForFunction((old) => document.querySelectorAll(".secret code")[1]?.textContent !== old, secret);
  await page.getByRole("button", { name: "I have it" }).click();
  await page.getByRole("button", { name: "Revoke" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Revoke" }).click();
  await page.getByText(/^revoked/).waitFor();
  await page.getByRole("button", { name: "Look again" }).click();
  await page.getByRole("cell", { name: "revokeApiKey" }).waitFor();
});

async function result(page, text) {
  await page.locator(".graphiql-response").getByText(text).first().waitFor();
}

async function choose(page, name, operation) {
  await page.locator(".examples").getByRole("button", { name }).click();
  // GraphiQL reads what is in its editor a moment later, and then names the tab.
  await page.getByRole("tab", { name: operation }).waitFor();
  await page.getByRole("button", { name: /Execute query/ }).click();
}

await withPage({}, async (page) => {
  await signInByLink(page, tokens.admin);
  await page.getByRole("link", { name: "Console" }).click();
  await page.locator(".graphiql-container").waitFor();
  // The first example is there, and the token is in the headers' editor.
  await page.locator(".graphiql-query-editor .view-line").first().waitFor();
  await page.locator(".graphiql-editor-tool .view-line", { hasText: "authorization" }).waitFor();
  await page.getByRole("button", { name: /Execute query/ }).click();
  await result(page, "conversionsToday");
  await page.getByRole("button", { name: "Show Documentation Explorer" }).click();
  await page.locator(".graphiql-doc-explorer").getByText("Subscription").first().waitFor();
  await page.getByRole("button", { name: "Show Examples" }).click();
  await choose(page, /^Nodes/, "Nodes");
  await result(page, "gpuBatchSize");
  const opened = page.waitForEvent("websocket");
  await choose(page, /^Watch the queue/, "Queue");
  assert.ok((await opened).url().startsWith("ws"), "subscriptions go over a WebSocket");
  await result(page, "succeededLastMinute");
  await page.getByRole("button", { name: /Stop query/ }).click();
  // GraphiQL 5 puts each tab's closing button inside the tab. All else is held to what the studio is held to.
  await isAccessible(page, "the console", { "nested-interactive": ".graphiql-tabs" });
});

// Who is no admin gets the page, and nothing on it.
await withPage({}, async (page) => {
  await page.goto(`${server}/console`);
  await page.getByText("Sign in at the studio first").waitFor();
  await signInByLink(page, tokens.user);
  await page.goto(`${server}/console`);
  await page.getByText("Your token isn't an admin's.").waitFor();
  await isAccessible(page, "the console's refusal");
  assert.equal(await page.locator(".graphiql-container").count(), 0);
});
