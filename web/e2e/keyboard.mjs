// Everything by keys: from signing in to a mesh on disk, and its end.
import assert from "node:assert/strict";
import path from "node:path";
import { done, out, picture, server, tokens, withPage } from "./harness.mjs";

/** Moves on until what has the focus fits; whoever needs more than `most` keys is lost. */
async function tabTo(page, locator, what, most = 60) {
  for (let press = 0; press < most; press += 1) {
    const isThere = await locator.evaluateAll((found) => found.includes(document.activeElement));
    if (isThere) return assertVisible(page, what);
    await page.keyboard.press("Tab");
  }
  const stopped = await page.evaluate(() => document.activeElement?.outerHTML.slice(0, 200));
  assert.fail(`${what} can't be reached: the focus is at ${stopped}`);
}

/** Where the keys go shows. A control that is hidden passes its mark on to its label. */
async function assertVisible(page, what) {
  const isMarked = await page.evaluate(() => {
    const focused = document.activeElement;
    const marks = [focused, focused.closest(".drop"), focused.nextElementSibling].filter(Boolean);
    return marks.some((element) => {
      const { outlineStyle, outlineWidth, boxShadow } = getComputedStyle(element);
      return (outlineStyle !== "none" && outlineWidth !== "0px") || boxShadow !== "none";
    });
  });
  assert.ok(isMarked, `${what} has the focus, and nothing shows it`);
}

/** Opens the choice of files. On a busy machine Chromium may let a key fall that it doesn't take for a person's any more. */
async function choose(page, input) {
  for (let attempt = 0; attempt < 5; attempt += 1) {
    await tabTo(page, input, "the choice of pictures");
    const choosing = page.waitForEvent("filechooser", { timeout: 10_000 }).catch(() => undefined);
    await page.keyboard.press("Space");
    const chooser = await choosing;
    if (chooser) return chooser;
  }
  assert.fail("no key opens the choice of files");
}

await withPage({ acceptDownloads: true }, async (page) => {
  await page.goto(`${server}/`);
  await page.getByLabel("Access token").waitFor();
  await page.keyboard.press("Tab");
  const skip = page.getByRole("link", { name: "Skip to the content" });
  assert.ok(await skip.evaluate((link) => link === document.activeElement), "the first key offers the content");
  await tabTo(page, page.getByLabel("Access token"), "the token");
  await page.keyboard.insertText(tokens.user);
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Your conversions" }).waitFor();

  const chooser = await choose(page, page.locator("#files"));
  await chooser.setFiles([picture("chair")]);
  await tabTo(page, page.getByRole("button", { name: "Remove chair.png" }), "taking a picture back");
  await tabTo(page, page.getByRole("checkbox", { name: "STL" }), "a format");
  await page.keyboard.press("Space");
  await tabTo(page, page.getByText("More options"), "the options");
  await page.keyboard.press("Enter");
  await tabTo(page, page.getByLabel("Colour"), "an option");
  // Past the texture, which takes longer, to none.
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowDown");
  await tabTo(page, page.getByRole("button", { name: "Convert", exact: true }), "the button that converts");
  await page.keyboard.press("Enter");
  await done(page).first().waitFor();

  await tabTo(page, page.locator(".card"), "a conversion");
  await page.keyboard.press("Enter");
  await page.locator('.stage[data-state="ready"]').waitFor();
  const focused = await page.evaluate(() => document.activeElement?.id);
  assert.equal(focused, "main", "another page begins at its beginning");
  const canvas = page.locator(".stage canvas");
  await tabTo(page, canvas, "the mesh");
  const before = await canvas.screenshot();
  await page.keyboard.press("ArrowLeft");
  await page.waitForTimeout(300);
  assert.ok(!(await canvas.screenshot()).equals(before), "arrow keys turn the mesh");
  const wire = page.getByRole("button", { name: "Wireframe" });
  await tabTo(page, wire, "the wireframe");
  await page.keyboard.press("Space");
  assert.equal(await wire.getAttribute("aria-pressed"), "true");

  await tabTo(page, page.getByRole("link", { name: /^STL/ }), "a file");
  const download = page.waitForEvent("download");
  await page.keyboard.press("Enter");
  await (await download).saveAs(path.join(out, "keys.stl"));

  // A question holds the keys until it is answered, and gives them back.
  const remove = page.getByRole("button", { name: "Delete" });
  await tabTo(page, remove, "deleting");
  await page.keyboard.press("Enter");
  const dialog = page.getByRole("dialog");
  await dialog.waitFor();
  for (let press = 0; press < 4; press += 1) {
    const isInside = await dialog.evaluate((element) => element.contains(document.activeElement) || document.activeElement === document.body);
    assert.ok(isInside, "keys stay in the question");
    await page.keyboard.press("Tab");
  }
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "detached" });
  assert.ok(await remove.evaluate((button) => button === document.activeElement), "who says no is where they were");
  await tabTo(page, remove, "deleting");
  await page.keyboard.press("Enter");
  await dialog.waitFor();
  await tabTo(page, dialog.getByRole("button", { name: "Delete" }), "yes");
  await page.keyboard.press("Enter");
  await page.waitForURL(`${server}/`);
  await page.getByText("Nothing here yet").waitFor();
  await tabTo(page, page.getByRole("button", { name: /Sign out/ }), "signing out");
  await page.keyboard.press("Enter");
  await page.getByLabel("Access token").waitFor();
});
