/**
 * Two builds are the same bytes, also from another folder: nothing absolute and no time goes in.
 */
import { expect, test } from "bun:test";
import { cpSync, symlinkSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { emptyFolder } from "./cli/run-cairn.ts";

const root = join(import.meta.dir, "..");
const PARTS = ["src", "fixtures", "scripts", "package.json", "package-lock.json", "tsconfig.json", "node_modules"];
/** Half a gigabyte of tools that a build does not read. */
const TOOLS = /node_modules\/(bun|@oven|@biomejs|typescript|@typescript|knip|@?oxc[^/]*|@types|bun-types)(\/|$)/;
const BUILD_MS_MAX = 120_000;

async function build(folder: string): Promise<string> {
  const child = Bun.spawn([process.execPath, "scripts/build-binary/build.ts"], { cwd: folder, stdin: "ignore", stdout: "ignore", stderr: "pipe" });
  expect({ status: await child.exited, stderr: await child.stderr.text() }).toEqual({ status: 0, stderr: "" });
  expect((await readdir(join(folder, "dist"))).sort()).toEqual(["cairn"]);
  return Bun.SHA256.hash(await Bun.file(join(folder, "dist/cairn")).arrayBuffer(), "hex");
}

test(
  "two builds in two folders have one hash",
  async () => {
    await using one = await emptyFolder();
    await using two = await emptyFolder();
    const other = join(two.path, "deeper/down");
    for (const folder of [one.path, other]) {
      for (const part of PARTS) cpSync(join(root, part), join(folder, part), { recursive: true, filter: (path) => !TOOLS.test(path) });
      symlinkSync("/nonexistent", join(folder, ".git")); // outside git, whatever lies above
    }
    expect(await build(other)).toBe(await build(one.path));
  },
  BUILD_MS_MAX,
);
