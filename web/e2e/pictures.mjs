// Takes the pictures of docs/pictures: `node e2e/pictures.mjs` with the environment that harness.mjs names.
import path from "node:path";
import { done, out, picture, server, signInByLink, tokens, withPage } from "./harness.mjs";

const SIZES = {
  desktop: { viewport: { width: 1280, height: 800 } },
  phone: { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true },
};

async function take(page, name) {
  await page.evaluate(() => document.activeElement?.blur());
  await page.waitForTimeout(400);
  await page.screenshot({ path: path.join(out, `web-${name}.png`) });
}

async function studio(page, kind) {
  await page.goto(`${server}/`);
  await page.getByLabel("Access token").waitFor();
  await take(page, `sign-in-${kind}`);
  await signInByLink(page, tokens.admin);
  await page.locator(".card .face img").first().waitFor();
  await take(page, `studio-${kind}`);
  await done(page).first().click();
  await page.locator('.stage[data-state="ready"]').waitFor();
  await page.waitForTimeout(800);
  await take(page, `viewer-${kind}`);
  await page.getByRole("link", { name: "Admin" }).click();
  await page.getByText("Done in the last minute").waitFor();
  await page.locator("tbody tr").first().waitFor();
  await take(page, `admin-${kind}`);
}

async function console_(page, kind) {
  await page.goto(`${server}/console`);
  await page.locator(".graphiql-container").waitFor();
  await page.getByRole("button", { name: "Show Examples" }).click();
  await page.getByRole("button", { name: /^Nodes The/ }).click();
  await page.getByRole("tab", { name: "Nodes" }).waitFor();
  await page.getByRole("button", { name: /Execute query/ }).click();
  await page.locator(".graphiql-response").getByText("gpuBatchSize").first().waitFor();
  await page.waitForTimeout(1000);
  await take(page, `console-${kind}`);
}

const fill = process.argv.includes("--fill");
if (fill) {
  await withPage({}, async (page) => {
    await signInByLink(page, tokens.admin);
    await page.locator("#files").setInputFiles(["truck", "chest", "house", "chair", "dinner"].map(picture));
    await page.getByRole("checkbox", { name: "STL" }).check();
    await page.getByRole("button", { name: "Convert 5 pictures" }).click();
    await done(page).nth(4).waitFor();
  });
}
for (const [size, context] of Object.entries(SIZES)) {
  for (const colorScheme of ["light", "dark"]) {
    await withPage({ ...context, colorScheme }, async (page) => {
      await studio(page, `${size}-${colorScheme}`);
      if (size === "desktop") await console_(page, `${size}-${colorScheme}`);
    });
  }
}
