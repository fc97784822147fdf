// Checks glTF files with the Khronos validator, which `make test` puts into .deps/node.
//
//     node validate-gltf.mjs FILE...
//
// Prints one line of JSON per file: { file, errors, warnings, infos, hints, messages }, and exits 1 if any has an error.
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";

const installed = createRequire(new URL("../../.deps/node/package.json", import.meta.url));
const validator = installed("gltf-validator");

let hasError = false;
for (const file of process.argv.slice(2)) {
  const report = await validate(file);
  hasError ||= report.errors > 0;
  console.log(JSON.stringify(report));
}
process.exitCode = hasError ? 1 : 0;

async function validate(file) {
  const bytes = new Uint8Array(await readFile(file));
  try {
    const { issues } = await validator.validateBytes(bytes, { uri: file, maxIssues: 100 });
    const { numErrors, numWarnings, numInfos, numHints, messages } = issues;
    return { file, errors: numErrors, warnings: numWarnings, infos: numInfos, hints: numHints, messages };
  } catch (error) {
    // What isn't recognised as glTF at all is thrown, not reported.
    return { file, errors: 1, warnings: 0, infos: 0, hints: 0, messages: [{ message: String(error) }] };
  }
}
