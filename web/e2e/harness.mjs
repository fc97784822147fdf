// A browser in front of a real server. Each test is a program: it exits with 0 when all is well.
//
// From the environment: ORFEAS_URL, ORFEAS_ADMIN and ORFEAS_USER (tokens), CHROMIUM (the program), PACKAGES (a folder
// with playwright-core and axe-core) and OUT (a folder to write to).
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath } from "node:url";

const { ORFEAS_URL, ORFEAS_ADMIN, ORFEAS_USER, CHROMIUM, PACKAGES, OUT } = process.env;
const require = createRequire(path.join(PACKAGES ?? path.join(import.meta.dirname, ".."), "package.json"));
const { chromium } = require("playwright-core");

export const server = ORFEAS_URL ?? "http://127.0.0.1:8080";
export const tokens = { admin: ORFEAS_ADMIN ?? "", user: ORFEAS_USER ?? "" };
export const out = OUT ?? "out";
const axeScript = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
export const root = fileURLToPath(new URL("../..", import.meta.url));

export function picture(name) {
  return path.join(root, "examples", "pictures", `${name}.png`);
}

// WebGL without a GPU.
const FLAGS = [
  "--no-sandbox",
  "--use-gl=angle",
  "--use-angle=swiftshader",
  "--enable-unsafe-swiftshader",
  "--ignore-gpu-blocklist",
];

/** What no page may do: break its policy, throw, load from elsewhere, or miss a file. */
function watch(page, faults) {
  page.on("pageerror", (error) => faults.push(`thrown: ${error.message}`));
  page.on("console", (message) => {
    if (message.type() === "error") faults.push(`console: ${message.text()} ${message.location().url}`);
  });
  page.on("request", (request) => {
    const { origin, protocol } = new URL(request.url());
    if (/^(https?|wss?):$/.test(protocol) && origin.replace(/^ws/, "http") !== new URL(server).origin) {
      faults.push(`elsewhere: ${request.url()}`);
    }
  });
}

/** Runs `work` with a page; `expected` are faults that belong to the test, as patterns. */
export async function withPage(options, work) {
  const { expected = [], ...context } = options;
  const browser = await chromium.launch({ executablePath: CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });
  const faults = [];
  try {
    const opened = await browser.newContext({ viewport: { width: 1280, height: 860 }, ...context });
    const page = await opened.newPage();
    page.setDefaultTimeout(60_000);
    watch(page, faults);
    await work(page, opened);
    await opened.close();
  } finally {
    await browser.close();
  }
  const left = faults.filter((fault) => !expected.some((pattern) => pattern.test(fault)));
  assert.deepEqual(left, [], "the pages did what they must not");
}

export async function signIn(page, token) {
  await page.goto(`${server}/`);
  await page.getByLabel("Access token").fill(`Bearer ${token}`);
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
  await page.getByRole("heading", { name: "Your conversions" }).waitFor();
}

/** By the link that `orfeas serve` prints. */
export async function signInByLink(page, token, place = "/") {
  await page.goto(`${server}${place}#token=${token}`);
  await page.getByRole("button", { name: /Sign out/ }).waitFor();
  assert.ok(!page.url().includes(token), "the token stays in the address");
}

/** No serious finding of axe's, but for those of others' parts: `known` says which rule is broken within what. */
export async function isAccessible(page, what, known = {}) {
  // By the debugger, outside the page's policy.
  await page.evaluate(axeScript);
  const told = await page.evaluate(async (theirs) => {
    const { violations } = await globalThis.axe.run();
    const serious = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
    const isKnown = (id, { target }) => id in theirs && document.querySelector(target.flat().join(" "))?.closest(theirs[id]);
    return serious.flatMap(({ id, nodes }) =>
      nodes.filter((node) => !isKnown(id, node)).map((node) => `${id}: ${node.html} ${node.failureSummary}`),
    );
  }, known);
  assert.deepEqual(told, [], `${what} has faults that keep people out`);
}

/** The cards of conversions that have ended with a mesh. */
export function done(page) {
  return page.locator(".card").filter({ hasText: /\d triangles/ });
}
