/** By hand, once for each format of the disk: `bun scripts/make-format.ts NODE-FOLDER VKEY fixtures/formats/vN`, of a stopped node. */
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { loadNode } from "../src/engine/node/config.ts";
import { lookInto } from "../test/store/look-into.ts";

const [from, vkey, to] = process.argv.slice(2);
if (from === undefined || vkey === undefined || to === undefined) throw new Error("want a node's folder, the log's key and the fixture's folder");
const isKept = (path: string): boolean => /^(store\/data\.mdb|log\/data\.mdb|accepts\.[01])$/.test(path);

const { merge } = await loadNode(from);
await rm(to, { recursive: true, force: true });
for (const path of (await readdir(from, { recursive: true })).filter(isKept).sort()) {
  await mkdir(dirname(join(to, path)), { recursive: true });
  await writeFile(join(to, `${path}.gz`), Bun.gzipSync(new Uint8Array(await readFile(join(from, path))), { level: 9 }));
}
const log = merge.log.toHex();
const seen = await lookInto(from, log, vkey);
await writeFile(join(to, "seen.json"), `${JSON.stringify({ log, vkey, seen }, null, 2)}\n`);
