// Three pictures, from signing in to the files on disk.
import assert from "node:assert/strict";
import path from "node:path";
import { done, isAccessible, out, picture, server, signIn, signInByLink, tokens, withPage } from "./harness.mjs";

const NAMES = ["truck", "chest", "house"];

async function drop(page, names) {
  const { readFile } = await import("node:fs/promises");
  const files = await Promise.all(names.map(async (name) => [name, (await readFile(picture(name))).toString("base64")]));
  const data = await page.evaluateHandle((given) => {
    const transfer = new DataTransfer();
    for (const [name, base64] of given) {
      const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
      transfer.items.add(new File([bytes], `${name}.png`, { type: "image/png" }));
    }
    return transfer;
  }, files);
  await page.locator(".drop").dispatchEvent("drop", { dataTransfer: data });
}

/** Gathers what the progress bars show, from before the submission on. */
async function watchProgress(page) {
  await page.evaluate(() => {
    globalThis.seen = [];
    new MutationObserver(() => {
      for (const bar of document.querySelectorAll(".progress")) {
        globalThis.seen.push([bar.querySelector("progress").value, bar.textContent]);
      }
    }).observe(document.body, { subtree: true, childList: true, attributes: true, characterData: true });
  });
}

async function stage(page) {
  await page.locator('.stage[data-state="ready"]').waitFor();
  await page.waitForTimeout(300);
  return page.locator(".stage canvas").screenshot();
}

/** Opens a finished conversion, turns it in every way there is, and saves its files. */
async function openMesh(page, index) {
  await page.locator(".card").nth(index).click();
  const before = await stage(page);
  const box = await page.locator(".stage canvas").boundingBox();
  await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width / 2 + 160, box.y + box.height / 2 + 30, { steps: 6 });
  await page.mouse.up();
  const turned = await stage(page);
  assert.ok(!turned.equals(before), "dragging turns the mesh");
  await page.locator(".stage canvas").press("ArrowRight");
  const byKey = await stage(page);
  assert.ok(!byKey.equals(turned), "arrow keys turn the mesh");
  await page.getByRole("button", { name: "Wireframe" }).click();
  assert.ok(!(await stage(page)).equals(byKey), "the wireframe shows");
  await page.getByRole("button", { name: "Wireframe" }).click();
  await page.getByRole("button", { name: "Back to the picture's view" }).click();
  for (const format of ["GLB", "STL"]) {
    const download = page.waitForEvent("download");
    await page.getByRole("link", { name: new RegExp(`^${format}`) }).click();
    const file = await download;
    assert.match(file.suggestedFilename(), new RegExp(`\\.${format.toLowerCase()}$`));
    await file.saveAs(path.join(out, `${index}.${format.toLowerCase()}`));
  }
  await page.getByText("One piece").or(page.getByText("separate pieces")).first().waitFor();
  if (index === 0) await isAccessible(page, "a conversion's page");
  await page.getByRole("link", { name: "All conversions" }).click();
}

await withPage({ acceptDownloads: true }, async (page) => {
  await page.goto(`${server}/`);
  await page.getByLabel("Access token").waitFor();
  await isAccessible(page, "the sign-in page");
  await signIn(page, tokens.user);
  assert.equal(await page.getByRole("link", { name: "Admin" }).count(), 0, "a person who is no admin sees no such page");
  await page.getByText("Nothing here yet").waitFor();

  await drop(page, NAMES);
  await page.getByRole("checkbox", { name: "STL" }).check();
  await watchProgress(page);
  await page.getByRole("button", { name: "Convert 3 pictures" }).click();
  await done(page).nth(2).waitFor();
  const seen = await page.evaluate(() => globalThis.seen);
  assert.ok(seen.some(([part]) => part > 0 && part < 1), "progress is seen on its way");
  assert.ok(seen.some(([, text]) => /shape|surface|Looking|Colouring|files/.test(text)), "stages are named");
  await page.locator(".card .face:not(.source) img").nth(2).waitFor();
  await isAccessible(page, "the studio");

  for (let index = 0; index < NAMES.length; index += 1) await openMesh(page, index);

  // Filters, a new attempt, and deletion.
  await page.getByRole("button", { name: "Failed or cancelled" }).click();
  await page.getByText("None of your conversions is in this state.").waitFor();
  await page.getByRole("button", { name: "Done", exact: true }).click();
  await page.locator(".card").nth(2).waitFor();
  await page.locator(".card").first().click();
  const address = page.url();
  await page.getByRole("button", { name: "Convert again" }).click();
  await page.waitForURL((url) => url.href !== address);
  await page.locator('.stage[data-state="ready"]').waitFor();
  // Nothing is known of the time that it takes before the first has succeeded.
  const later = await page.evaluate(() => globalThis.seen);
  assert.ok(later.some(([, text]) => /left|any moment/.test(text)), "the time left is told");
  await page.getByRole("button", { name: "Delete" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  await page.waitForURL(`${server}/`);
  assert.equal(await page.locator(".card").count(), 3, "the deleted one is gone from the gallery");

  // What was signed in lasts over a reload, and ends when asked to.
  await page.reload();
  await page.locator(".card").nth(2).waitFor();
  await page.getByRole("button", { name: /Sign out/ }).click();
  await page.getByLabel("Access token").waitFor();
  await page.reload();
  await page.getByLabel("Access token").waitFor();
});

// The same conversion at its own address, on a phone, in the dark, by a link that signs in.
const phone = { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true, colorScheme: "dark" };
await withPage(phone, async (page) => {
  await signInByLink(page, tokens.user);
  await page.locator(".card").first().tap();
  await stage(page);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(wide <= 0, `the page is ${wide} pixels wider than the phone`);
  await isAccessible(page, "a conversion's page on a phone");
});
