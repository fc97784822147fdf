// People sign in at an identity provider (ISSUER), which e2e/provider.mjs is.
import assert from "node:assert/strict";
import { isAccessible, server, withPage } from "./harness.mjs";

const issuer = process.env.ISSUER ?? "http://127.0.0.1:4000";
const { host } = new URL(issuer);
// The provider's own pages are another host's, and refuse things on purpose.
const expected = [new RegExp(`elsewhere: ${issuer}/`), new RegExp(`console: .*${issuer}/`), /elsewhere: https:\/\/fonts\./];

/** The provider's pages want letters from elsewhere; nothing goes out. */
async function stayHere(context) {
  const ours = [new URL(server).origin, issuer];
  await context.route((url) => !ours.includes(url.origin), (route) => route.fulfill({ body: "" }));
}

const button = (page) => page.getByRole("button", { name: `Sign in at ${host}` });

async function enter(page, name) {
  await page.locator("input[name=login]").fill(name);
  await page.locator("input[name=password]").fill("any");
  await page.getByRole("button", { name: "Sign-in" }).click();
  await page.getByRole("button", { name: "Continue" }).click();
}

const stored = (page) =>
  page.evaluate(() => ({ session: { ...sessionStorage }, local: Object.keys(localStorage).filter((name) => name !== "orfeas.theme") }));

/** What the provider says to a refresh token. */
async function spend(refreshToken) {
  const body = new URLSearchParams({ grant_type: "refresh_token", client_id: "studio", refresh_token: refreshToken });
  return (await fetch(`${issuer}/token`, { method: "POST", body })).status;
}

async function revoke(refreshToken) {
  const body = new URLSearchParams({ client_id: "studio", token: refreshToken });
  assert.equal((await fetch(`${issuer}/token/revocation`, { method: "POST", body })).status, 200);
}

// In, reloaded, renewed, out, and in again.
await withPage({ expected }, async (page, context) => {
  await stayHere(context);
  const renewals = [];
  page.on("response", (response) => {
    if (response.url() === `${issuer}/token` && response.request().postData()?.includes("grant_type=refresh_token")) renewals.push(response.status());
  });
  const sockets = [];
  page.on("websocket", (socket) => sockets.push(socket));

  await page.goto(`${server}/admin`);
  await button(page).waitFor();
  await isAccessible(page, "the sign-in page with a provider");
  await button(page).click();
  const asked = new URL(page.url().startsWith(issuer) ? page.url() : (await page.waitForURL(`${issuer}/**`), page.url()));
  assert.equal(asked.origin, issuer);
  await enter(page, "root");
  await page.getByText("Done in the last minute").waitFor();
  assert.equal(page.url(), `${server}/admin`, "one comes back to where one was, and nothing of the answer stays in the address");
  const { session, local } = await stored(page);
  assert.deepEqual(local, [], "what a provider gives is kept for the tab alone");
  const grant = JSON.parse(session["orfeas.grant"]);
  assert.equal(session["orfeas.token"], grant.token);
  assert.ok(!("orfeas.pending" in session), "the sign-in's secrets are gone");
  assert.equal(await page.locator(".who").textContent(), "root");

  // The token is renewed before it ends, and what is followed goes on with the new one.
  const opened = sockets.length;
  await page.waitForFunction((old) => sessionStorage.getItem("orfeas.token") !== old, grant.token, { timeout: 60_000 });
  assert.deepEqual(renewals, [200]);
  await page.waitForFunction(() => document.querySelector(".figure dd") !== null);
  while (sockets.length === opened) await page.waitForEvent("websocket");
  assert.equal(await page.locator(".banner").count(), 0, "nothing is lost by it");
  await page.reload();
  await page.getByText("Done in the last minute").waitFor();

  const { session: later } = await stored(page);
  const { refreshToken } = JSON.parse(later["orfeas.grant"]);
  const ended = page.waitForResponse(`${issuer}/token/revocation`);
  await page.getByRole("button", { name: /Sign out/ }).click();
  await button(page).waitFor();
  assert.equal((await ended).status(), 200);
  const { session: after } = await stored(page);
  assert.ok(!Object.values(after).some((text) => text.includes(".")), "no token is left");
  assert.equal(await spend(refreshToken), 400, "what could get another token doesn't any more");

  // Who has signed out is asked again, though the provider knows them.
  await button(page).click();
  await enter(page, "alice");
  await page.getByRole("heading", { name: "There is nothing here" }).waitFor();
  assert.equal(await page.locator(".who").textContent(), "alice", "and is no admin");

  // The provider takes it back: the page says so.
  const { session: last } = await stored(page);
  await revoke(JSON.parse(last["orfeas.grant"]).refreshToken);
  await page.getByText("Your sign-in has ended.").waitFor();
  const { session: none } = await stored(page);
  assert.ok(!("orfeas.token" in none));
});

// What is no answer to this tab's question is none, and shows nobody's words.
await withPage({ expected }, async (page, context) => {
  await stayHere(context);
  await page.goto(`${server}/signed-in?error=x&error_description=Call%20me&state=y`);
  await page.getByRole("alert").getByText("No sign-in was begun in this tab").waitFor();
  for (const answer of ["code=abc&state=wrong", "error=x&error_description=Call%20me&state=wrong"]) {
    await button(page).click();
    await page.locator("input[name=login]").waitFor();
    await page.goto(`${server}/signed-in?${answer}&iss=${encodeURIComponent(issuer)}`);
    await page.getByRole("alert").getByText("Its answer can't be used").waitFor();
    assert.equal(await page.getByText("Call me").count(), 0);
    assert.equal(page.url(), `${server}/`);
  }
  // Who changes their mind at the provider is told what it said.
  await button(page).click();
  await page.getByRole("link", { name: /Cancel/ }).click();
  await page.getByRole("alert").getByText("The identity provider did not sign you in").waitFor();
  await page.getByRole("alert").getByText("access_denied").waitFor();
  await isAccessible(page, "a refusal");
  // A token still does.
  await page.getByLabel("Access token").fill(process.env.ORFEAS_USER);
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
  await page.getByRole("heading", { name: "Your conversions" }).waitFor();
});
