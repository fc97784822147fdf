// Takes the pictures of docs/pictures: `node e2e/pictures.mjs [--fill] [desktop|phone]` with the environment that harness.mjs
// names. With `--fill` the server is given something to show first.
import { writeFile } from "node:fs/promises";
import path from "node:path";
import { done, out, picture, server, signInByLink, tokens, withPage } from "./harness.mjs";

const SIZES = {
  desktop: { viewport: { width: 1280, height: 800 } },
  phone: { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true },
};
const NAMES = ["truck", "chest", "house", "chair", "dinner"];
/** Of WebP: letters stay sharp, and all pictures together stay small. */
const QUALITY = 82;

async function take(page, name) {
  await page.evaluate(() => document.activeElement?.blur());
  await page.mouse.move(0, 0);
  // Those that are seen are there.
  await page.waitForFunction(() =>
    [...document.images].every((image) => image.complete || image.getBoundingClientRect().top > innerHeight),
  );
  await page.waitForTimeout(400);
  const session = await page.context().newCDPSession(page);
  const { data } = await session.send("Page.captureScreenshot", { format: "webp", quality: QUALITY });
  await writeFile(path.join(out, `web-${name}.webp`), Buffer.from(data, "base64"));
}

async function submit(page, names, detail) {
  await page.locator("#files").setInputFiles(names.map(picture));
  await page.getByText("More options").click();
  await page.getByLabel("Detail").selectOption(detail);
  await page.getByText("More options").click();
  await page.getByRole("button", { name: `Convert ${names.length} pictures` }).click();
}

async function studio(page, kind) {
  await page.goto(`${server}/`);
  await page.getByLabel("Access token").waitFor();
  await take(page, `sign-in-${kind}`);
  await signInByLink(page, tokens.admin);
  await page.locator(".card .face img").first().waitFor();
  await done(page).nth(NAMES.length - 1).waitFor();
  await page.locator("#files").setInputFiles([picture("chair"), picture("dinner")]);
  await take(page, `studio-${kind}`);
  await page.getByRole("button", { name: "Remove all" }).click();
  await done(page).filter({ has: page.locator(".inset") }).nth(2).click();
  await page.locator('.stage[data-state="ready"]').waitFor();
  await page.waitForTimeout(800);
  await take(page, `viewer-${kind}`);
  await page.getByRole("link", { name: "Admin" }).click();
  await page.getByText("Done in the last minute").waitFor();
  await page.locator("tbody tr").first().waitFor();
  await take(page, `admin-${kind}`);
}

/** Some on their way, in each their own state; they are gone again afterwards. */
async function progress(page, kind) {
  await page.goto(`${server}/`);
  await done(page).nth(NAMES.length - 1).waitFor();
  await submit(page, NAMES, "256");
  await page.getByText("Imagining the shape").first().waitFor();
  if (kind.startsWith("phone")) await page.locator(".gallery").evaluate((gallery) => gallery.scrollIntoView());
  await take(page, `progress-${kind}`);
  const ids = await page.locator(".card").evaluateAll((cards) => cards.slice(0, 5).map((card) => card.getAttribute("href").split("/").at(-1)));
  // Nothing on the screen asks for what is going.
  await page.goto("about:blank");
  for (const id of ids) await forget(id);
}

async function ask(query, variables) {
  const answer = await fetch(`${server}/graphql`, {
    method: "POST",
    headers: { authorization: `Bearer ${tokens.admin}`, "content-type": "application/json" },
    body: JSON.stringify({ query, variables }),
  });
  return answer.json();
}

/** Calls a conversion off and removes it. */
async function forget(id) {
  await ask("mutation ($id: ID!) { cancelConversion(id: $id) { conversion { id } } }", { id });
  for (;;) {
    const { errors } = await ask("mutation ($id: ID!) { deleteConversion(id: $id) { deletedId } }", { id });
    if (errors === undefined) return;
    await new Promise((wake) => setTimeout(wake, 500));
  }
}

async function console_(page, kind) {
  await page.goto(`${server}/console`);
  await page.locator(".graphiql-container").waitFor();
  if (kind.startsWith("desktop")) {
    await page.getByRole("button", { name: "Show Examples" }).click();
    await page.getByRole("button", { name: /^Nodes The/ }).click();
    await page.getByRole("tab", { name: "Nodes" }).waitFor();
  } else {
    await page.locator(".graphiql-query-editor .view-line").first().waitFor();
  }
  await page.getByRole("button", { name: /Execute query/ }).click();
  await page.locator(".graphiql-response").getByText('"data"').first().waitFor();
  await page.waitForTimeout(1000);
  await take(page, `console-${kind}`);
}

if (process.argv.includes("--fill")) {
  await withPage({}, async (page) => {
    await signInByLink(page, tokens.admin, "/admin");
    for (const [name, perMinute] of [["nightly catalogue", "60"], ["shop preview", "240"]]) {
      await page.getByRole("button", { name: "New key" }).click();
      await page.getByLabel("Name").fill(name);
      await page.getByLabel("Requests a minute").fill(perMinute);
      await page.getByRole("button", { name: "Make the key" }).click();
      await page.getByRole("button", { name: "I have it" }).click();
    }
    await page.getByRole("link", { name: "Studio" }).click();
    await page.getByRole("checkbox", { name: "STL" }).check();
    await submit(page, NAMES, "192");
    await done(page).nth(NAMES.length - 1).waitFor();
  });
}
const asked = Object.keys(SIZES).filter((size) => process.argv.includes(size));
for (const size of asked.length > 0 ? asked : Object.keys(SIZES)) {
  const context = SIZES[size];
  for (const colorScheme of ["light", "dark"]) {
    await withPage({ ...context, colorScheme }, async (page) => {
      const kind = `${size}-${colorScheme}`;
      await studio(page, kind);
      await console_(page, kind);
      await progress(page, kind);
    });
  }
}
