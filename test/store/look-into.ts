/** What every build must find in a node's folder, whoever wrote it: all rows, the versions and votes, the log's order and head. */
import { toHex, u64be, utf8 } from "../../src/engine/base/bytes.ts";
import type { Db, Snapshot } from "../../src/engine/base/effects.ts";
import { edgeRoot } from "../../src/engine/log/merkle.ts";
import { parseVkey } from "../../src/engine/log/note.ts";
import { LogReader } from "../../src/engine/log/reader.ts";
import { readerSource } from "../../src/engine/log/reader-source.ts";
import { verifyLog } from "../../src/engine/log/verify.ts";
import { readEdge, rows } from "../../src/engine/merge/records.ts";
import { openDisk } from "../../src/engine/node/disk.ts";
import { storedAccepted, storedVote } from "../../src/engine/paxos/records.ts";
import { replicatedKeys } from "../../src/engine/store/keys.ts";
import { batchOf, historyIn, replicatedOf } from "../../src/engine/store/versions.ts";

const END = new Uint8Array(8).fill(0xff);

/** Count and SHA-256 of all rows of a database, in order. */
function digestOf(snap: Snapshot, db: Db): { readonly rows: number; readonly sha256: string } {
  const hash = new Bun.CryptoHasher("sha256");
  let count = 0;
  for (const [key, value] of snap.range(db, new Uint8Array(0), END)) {
    hash.update(u64be(key.length)).update(key).update(u64be(value.length)).update(value);
    count++;
  }
  return { rows: count, sha256: hash.digest("hex") };
}

/** `log`: its id in hex; `vkey`: who signs its heads. */
export async function lookInto(dir: string, log: string, vkey: string) {
  const disk = await openDisk(dir, { create: false });
  try {
    using snap = disk.snapshot();
    const logId = Uint8Array.fromHex(log);
    const { first, last } = historyIn(snap);
    const edge = readEdge(snap, logId);
    const published = rows.published(snap, logId);
    const greeting = snap.get("replicated", replicatedKeys.kv(utf8("greeting")));
    return {
      digests: Object.fromEntries((["replicated", "local", "accepts", "log"] as const).map((db) => [db, digestOf(snap, db)])),
      versions: { first, last, newestBytes: batchOf(replicatedOf(snap), last)?.length },
      greeting: greeting === undefined ? null : new TextDecoder().decode(greeting),
      vote: storedVote(snap),
      accepted: [...storedAccepted(snap)].map(({ version }) => version),
      order: { size: edge.size, root: toHex(edgeRoot(edge)) },
      verified: published === null ? null : await verifiedSize(new LogReader(snap, logId), published.note, vkey),
    };
  } finally {
    await disk.close();
  }
}

/** Every entry, tile and proof below the signed head. */
async function verifiedSize(reader: LogReader, note: Uint8Array, vkey: string): Promise<number> {
  const { checkpoint } = await verifyLog(readerSource(reader, note), { vkey: parseVkey(vkey) });
  return checkpoint.size;
}
