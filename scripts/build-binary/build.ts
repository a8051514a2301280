/**
 * `npm run build`: one file, dist/cairn, that runs from an empty folder without node_modules (platform.md, "Building one
 * binary"). Two builds of one commit and one lock file are the same bytes: nothing absolute and no time goes in.
 * Never reads the network; the runtime it compiles with is the pinned npm package that runs this file.
 */
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { lmdbAddonPlugin } from "./lmdb-plugin.ts";
import { mutantPlugin } from "./mutant-plugin.ts";

const root = join(import.meta.dir, "..", "..");
process.chdir(root); // the sourcemap names files relative to the working folder

const git = (...words: string[]): string | null => {
  const found = Bun.which("git");
  if (found === null) return null;
  const { exitCode, stdout } = Bun.spawnSync([found, ...words], { stderr: "ignore" });
  return exitCode === 0 ? stdout.toString().trim() : null;
};

/** 12 hex digits, with `-dirty` when the tree differs from it; `unknown` outside git. */
function commit(): string {
  const head = git("rev-parse", "--short=12", "HEAD");
  if (head === null) return "unknown";
  return git("status", "--porcelain") === "" ? head : `${head}-dirty`;
}

const packageJson: { version: string } = JSON.parse(readFileSync("package.json", "utf8"));
const lockHash = createHash("sha256").update(readFileSync("package-lock.json")).digest("hex").slice(0, 12);

mkdirSync("dist", { recursive: true });
const result = await Bun.build({
  entrypoints: ["src/cmd/main.ts"],
  compile: { outfile: "dist/cairn", autoloadDotenv: false, autoloadBunfig: false },
  format: "esm",
  minify: true,
  bytecode: true,
  sourcemap: "inline",
  define: {
    CAIRN_MUTANTS: "false",
    CAIRN_VERSION: JSON.stringify(packageJson.version),
    CAIRN_COMMIT: JSON.stringify(commit()),
    CAIRN_LOCK_HASH: JSON.stringify(lockHash),
  },
  plugins: [mutantPlugin, lmdbAddonPlugin(`${process.platform}-${process.arch}`)],
});
for (const log of result.logs) process.stderr.write(`${log}\n`);
rmSync("dist/cairn.map", { force: true }); // the binary holds its own copy
if (!result.success) process.exitCode = 1;
