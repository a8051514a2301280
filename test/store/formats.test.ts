/** Every format of the disk that was ever released opens and reads as it was: folders of stopped nodes, each as its build left it. */
import { expect, test } from "bun:test";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { lookInto } from "./look-into.ts";

const FORMATS = "fixtures/formats";

for (const version of await readdir(FORMATS))
  test(`a folder of format ${version} reads as its own build read it`, async () => {
    const fixture = join(FORMATS, version);
    const dir = await mkdtemp(join(tmpdir(), "cairn-format-"));
    try {
      for (const path of (await readdir(fixture, { recursive: true })).filter((each) => each.endsWith(".gz"))) {
        await mkdir(dirname(join(dir, path)), { recursive: true });
        await writeFile(join(dir, path.slice(0, -".gz".length)), Bun.gunzipSync(new Uint8Array(await readFile(join(fixture, path)))));
      }
      const { log, vkey, seen } = JSON.parse(await readFile(join(fixture, "seen.json"), "utf8")) as { log: string; vkey: string; seen: unknown };
      expect(await lookInto(dir, log, vkey)).toEqual(seen as Awaited<ReturnType<typeof lookInto>>);
    } finally {
      await rm(dir, { recursive: true, force: true });
    }
  });
