// What goes wrong, and what a person is told.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { done, picture, server, signIn, signInByLink, tokens, withPage } from "./harness.mjs";

// Chromium reports refused requests as errors of the console; here they are what is tested.
const expected = [/console: Failed to load resource/, /console: WebSocket connection/];

await withPage({ expected }, async (page, context) => {
  await page.goto(`${server}/`);
  await page.getByLabel("Access token").fill("not.a.token");
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
  await page.getByRole("alert").getByText("This token doesn't count").waitFor();

  await signIn(page, tokens.user);
  const good = await readFile(picture("chair"));
  await page.locator("#files").setInputFiles([
    { name: "cut-off.png", mimeType: "image/png", buffer: good.subarray(0, 2000) },
    { name: "words.txt", mimeType: "text/plain", buffer: Buffer.from("no picture") },
    { name: "chair.png", mimeType: "image/png", buffer: good },
  ]);
  await page.getByText("words.txt is no PNG, JPEG or WebP.").waitFor();
  await page.getByRole("button", { name: "Convert 2 pictures" }).click();
  // The bad one stays, with the reason; the good one goes on.
  await page.getByText("The picture can't be read.").waitFor();
  await done(page).first().waitFor();
  assert.equal(await page.locator(".card").count(), 1);
  await page.getByRole("button", { name: "Remove all" }).click();

  // An option that the server refuses is told by its name.
  await page.getByText("More options").click();
  await page.getByLabel("At most triangles").fill("1");
  await page.locator("#files").setInputFiles(picture("chair"));
  await page.getByRole("button", { name: "Convert", exact: true }).click();
  await page.getByText("One of the options doesn't fit.").waitFor();
  await page.getByRole("button", { name: "Remove all" }).click();
  await page.getByRole("button", { name: "Back to the defaults" }).click();

  // Nobody else's, and nothing at all.
  await page.goto(`${server}/conversions/cnv_00000000000000000000000000`);
  await page.getByRole("heading", { name: "There is no such conversion" }).waitFor();
  await page.goto(`${server}/admin`);
  await page.getByRole("heading", { name: "There is nothing here" }).waitFor();

  // Without a network one is told so, and back when it is there again.
  await page.goto(`${server}/`);
  await page.locator(".card").first().waitFor();
  await context.setOffline(true);
  await page.locator("#files").setInputFiles(picture("chair"));
  await page.getByRole("button", { name: "Convert", exact: true }).click();
  await page.getByText("The server can't be reached.").waitFor();
  await context.setOffline(false);
  await page.getByRole("button", { name: "Try refused ones again" }).click();
  await page.getByRole("button", { name: "Convert", exact: true }).click();
  await done(page).nth(1).waitFor();
});

// Cancelling: the admin stops the queue, so that what is submitted waits until it is called off.
await withPage({ expected }, async (page) => {
  await signInByLink(page, tokens.admin, "/admin");
  await page.getByRole("button", { name: "Pause" }).click();
  await page.getByText("The queue is paused").waitFor();
  await page.getByRole("link", { name: "Studio" }).click();
  await page.locator("#files").setInputFiles(picture("chair"));
  await page.getByRole("button", { name: "Convert", exact: true }).click();
  await page.getByRole("link", { name: /Waiting/ }).click();
  await page.getByRole("button", { name: "Cancel" }).click();
  await page.getByText("It was cancelled before it was done.").waitFor();
  await page.getByRole("link", { name: "Admin" }).click();
  await page.getByRole("button", { name: "Resume" }).click();
  await page.getByRole("button", { name: "Pause" }).waitFor();
});
