// Every page on a phone, by touch, in light and in dark: nothing is cut off, nothing keeps people out.
import assert from "node:assert/strict";
import { done, isAccessible, picture, server, signInByLink, tokens, withPage } from "./harness.mjs";

const PHONE = { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true };
/** A finger's width, in CSS pixels (WCAG 2.2, 2.5.8). */
const TARGET_MIN = 24;

async function fits(page, what) {
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(wide <= 0, `${what} is ${wide} pixels wider than the phone`);
  const small = await page.evaluate((least) => {
    const targets = [...document.querySelectorAll("button, a.button, nav a, summary, label.chip")];
    const boxes = targets.map((target) => [target.outerHTML.slice(0, 80), target.getBoundingClientRect()]);
    return boxes.filter(([, { width, height }]) => width > 0 && (width < least || height < least)).map(([text]) => text);
  }, TARGET_MIN);
  assert.deepEqual(small, [], `${what} has targets that fingers miss`);
  await isAccessible(page, `${what}, on a phone`);
}

for (const colorScheme of ["light", "dark"]) {
  await withPage({ ...PHONE, colorScheme }, async (page) => {
    await page.goto(`${server}/`);
    await page.getByLabel("Access token").waitFor();
    await fits(page, "the sign-in page");
    await signInByLink(page, tokens.admin);
    await page.locator("#files").setInputFiles([picture("chair"), picture("truck")]);
    await page.getByText("More options").tap();
    await fits(page, "the studio with pictures chosen");
    await page.getByRole("button", { name: "Convert 2 pictures" }).tap();
    await done(page).nth(1).waitFor();
    await fits(page, "the studio");
    await page.locator(".card").first().tap();
    await page.locator('.stage[data-state="ready"]').waitFor();
    await fits(page, "a conversion's page");
    await page.getByRole("link", { name: "Admin" }).tap();
    await page.getByText("Done in the last minute").waitFor();
    await page.locator("tbody tr").first().waitFor();
    await page.getByRole("button", { name: "New key" }).tap();
    await fits(page, "the admin's page");
    await page.goto(`${server}/conversions/cnv_00000000000000000000000000`);
    await page.getByRole("heading", { name: "There is no such conversion" }).waitFor();
    await fits(page, "a page of nothing");
  });
}
