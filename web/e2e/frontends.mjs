// Runs the snippets of docs/FRONTENDS.md, as they stand there, against a real server.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFile, symlink, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";

const { ORFEAS_URL, ORFEAS_USER, PACKAGES, OUT } = process.env;
const root = path.join(import.meta.dirname, "../..");
const packages = PACKAGES ?? path.join(root, "web");
const require = createRequire(path.join(packages, "package.json"));
// Browsers have them.
globalThis.WebSocket ??= require("ws");

const text = await readFile(path.join(root, "docs/FRONTENDS.md"), "utf8");
const snippets = new Map([...text.matchAll(/```js\n\/\/ ([\w.]+)\n(.*?)```/gs)].map(([, name, code]) => [name, code]));
assert.deepEqual([...snippets.keys()], ["fetch.mjs", "urql.mjs", "apollo.mjs", "show.mjs"]);
await symlink(path.join(packages, "node_modules"), path.join(OUT, "node_modules"));

async function open(name) {
  const place = path.join(OUT, name);
  await writeFile(place, snippets.get(name));
  return import(pathToFileURL(place).href);
}

const { load } = await open("show.mjs");
const picture = new File([await readFile(path.join(root, "examples/pictures/chair.png"))], "chair.png", { type: "image/png" });
for (const name of ["fetch.mjs", "urql.mjs", "apollo.mjs"]) {
  const { convert } = await open(name);
  const steps = [];
  const [mesh] = await convert(ORFEAS_URL, ORFEAS_USER, picture, (step) => steps.push(step));
  assert.ok(steps.length > 0 && steps.at(-1).status === "SUCCEEDED", `${name} tells how far it is`);
  assert.equal(mesh.format, "GLB", name);
  const bytes = Buffer.from(await (await fetch(mesh.url)).arrayBuffer());
  assert.equal(createHash("sha256").update(bytes).digest("hex"), mesh.sha256, name);
  const { longest } = await load(mesh.url);
  assert.ok(Math.abs(longest - 1) < 1e-3, `${name}: the longest side is ${longest} m`);
  const bad = new File(["no picture"], "bad.png", { type: "image/png" });
  await assert.rejects(convert(ORFEAS_URL, ORFEAS_USER, bad, () => undefined), (error) => /PNG|JPEG|WebP|image|picture/i.test(error.message), name);
}
process.exit(0);
