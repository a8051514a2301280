// First step of `npm start`, `npm test` and `npm run build` (npm skips pre-scripts where ignore-scripts is set, as it is
// here), with nothing but node and npm there: installs the packages
// when node_modules is missing or older than the lock file, and puts bun's executable in place of the stub that npm
// leaves when install scripts are off. Does nothing, quickly, when nothing is to be done.
import { spawnSync } from "node:child_process";
import { statSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

process.chdir(join(dirname(fileURLToPath(import.meta.url)), ".."));
const STUB_BYTES_MAX = 1_000_000; // the stub is a few lines, bun is 100 MB

const stat = (file) => statSync(file, { throwIfNoEntry: false });

function run(command, args) {
  const { status, error } = spawnSync(command, args, { stdio: ["ignore", 2, 2] }); // stdout is for the command that follows
  if (status === 0) return;
  process.stderr.write(`setup: ${[command, ...args].join(" ")} failed${error === undefined ? "" : `: ${error.message}`}\n`);
  process.exit(1);
}

/** npm writes this file last. */
const installed = stat("node_modules/.package-lock.json")?.mtimeMs ?? 0;
if (installed < (stat("package-lock.json")?.mtimeMs ?? 0)) {
  process.stderr.write("setup: installing packages (npm ci)\n");
  const npm = process.env.npm_execpath;
  if (npm === undefined) run("npm", ["ci"]);
  else run(process.execPath, [npm, "ci"]);
}
if ((stat("node_modules/bun/bin/bun.exe")?.size ?? 0) < STUB_BYTES_MAX) run(process.execPath, ["node_modules/bun/install.js"]);
