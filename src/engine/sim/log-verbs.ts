/**
 * Verbs that read a log as its users do: proofs, checkpoints, where an entry stands, and a check that derives everything
 * anew from one node's disk. The fsck of `log/verify.ts` reads through promises, which a story cannot wait for; this one
 * is its plain counterpart for small logs: every entry, every tile, every published head. Nothing is written.
 */
import { equalBytes, fromHex, fromUtf8, readU64be, toHex, utf8 } from "../base/bytes.ts";
import { EngineError } from "../base/errors.ts";
import type { Hash, LogId, NodeId } from "../base/ids.ts";
import { openCheckpoint } from "../log/checkpoint.ts";
import { leafHash, leafHashes, rootOf } from "../log/merkle.ts";
import { checkConsistency } from "../log/proof.ts";
import { encodeProof, openProof, parseProof } from "../log/proof-file.ts";
import { LogReader } from "../log/reader.ts";
import { TILE_WIDTH } from "../log/tile.ts";
import type { Head, MergeConfig } from "../merge/config.ts";
import { findEntries } from "../merge/find.ts";
import { rows } from "../merge/records.ts";
import { logKeys } from "../store/keys.ts";
import type { Verb } from "./area.ts";
import type { DiskSnapshot } from "./disk.ts";
import { shortened } from "./merge-report.ts";
import type { StoryCluster } from "./merge-story.ts";
import { type MergeScene, member } from "./merge-verbs.ts";

const CHUNK_BYTES = 8 * 1_024 * 1_024;

export const logVerbs: readonly Verb<MergeScene>[] = [
  {
    name: "log checkpoint",
    forms: ["[NODE]"],
    example: "log checkpoint f",
    summary: "the signed note of a node's head",
    run({ story }, words) {
      const { head } = headOf(story, words.optional("node"), null);
      return fromUtf8(head.note).trimEnd().split("\n");
    },
  },
  {
    name: "log proof",
    forms: ["INDEX [size=N] [node=NODE]", "against=OLD [size=N] [node=NODE]"],
    example: "log proof 3 size=90",
    summary: "that an entry lies in a published head, or that the head extends an older size; made from the tiles, checked offline",
    run({ story }, words) {
      const node = words.key("node");
      const size = words.has("size") ? words.count("size", 0) : null;
      const against = words.has("against") ? words.count("against", 0) : null;
      const found = headOf(story, node, size);
      const line = against === null ? inclusionLine(found, words.count("index")) : consistencyLine(found, against);
      return [line];
    },
  },
  {
    name: "log verify",
    forms: ["[NODE…]"],
    example: "log verify p s1 f",
    summary: "derive everything anew from a node's disk: entries, tiles, root, signature, each published head; all nodes that keep the log where none is named",
    run({ story }, words) {
      const { primary, secondaries, frontends } = story.shape;
      const named = words.rest();
      const ids = named.length > 0 ? named : [...new Set([primary, ...secondaries, ...frontends])];
      return ids.map((id) => `${id}: ${verdict(story, id)}`);
    },
  },
  {
    name: "log find",
    forms: ["TEXT [node=NODE]", "HASH [node=NODE]"],
    example: "log find hello",
    summary: "where an entry stands, by its text or its leaf hash",
    run({ story }, words) {
      const node = words.key("node");
      const text = words.text("text");
      const hash = text.length === 64 ? fromHex(text) : null;
      const leaf = hash ?? leafHash(utf8(text));
      const id = node === null ? story.primary : member(story.nodesByRole, node, "node");
      const { indexes, currentSize } = findEntries(story.snapOf(id), story.config(id), leaf);
      const [index] = indexes;
      const signed = story.signedSize ?? 0;
      if (index === null || index === undefined) return [shortened(`${id}: leaf ${toHex(leaf)} is not in the order of ${currentSize}`)];
      return [shortened(`${id}: leaf ${toHex(leaf)} is entry ${index} of ${currentSize}, ${index < signed ? `signed in ${signed}` : "not signed yet"}`)];
    },
  },
];

// ------------------------------------------------------------------ heads

type Found = { readonly id: NodeId; readonly config: MergeConfig; readonly head: Head; readonly reader: LogReader };

/** A node's head: published, else cosigned, else the register's; or the published head of exactly this size. */
function headOf(story: StoryCluster, node: string | null, size: number | null): Found {
  const id = node === null ? (story.shape.frontends[0] ?? story.primary) : member(story.nodesByRole, node, "node");
  const config = story.config(id);
  const snap = story.snapOf(id);
  const head = size === null ? lastHead(snap, config.log) : rows.head(snap, config.log, size);
  if (head === null) throw new EngineError("NOT_FOUND", size === null ? `${id} has no head` : `${id} published no head of size ${size}`);
  return { id, config, head, reader: new LogReader(snap, config.log) };
}

const lastHead = (snap: DiskSnapshot, log: LogId): Head | null =>
  rows.published(snap, log) ?? rows.cosigned(snap, log) ?? rows.register(snap, log)?.head ?? null;

// ------------------------------------------------------------------ proofs

/** Made from the tiles, written as a file, read and checked as somebody would who has only the log's key. */
function inclusionLine({ id, config, head, reader }: Found, index: number): string {
  const text = encodeProof({ index, path: reader.inclusion(index, head.size), checkpoint: fromUtf8(head.note), extra: null });
  const proof = parseProof(text);
  const leaf = leafHashes(reader.entries(index, index + 1, CHUNK_BYTES).bundle);
  const { size, root } = openProof(proof, { vkey: { name: config.origin, type: 1, publicKey: config.logPublicKey }, leaf });
  return shortened(`${id}: entry ${index}, leaf ${toHex(leaf)}, ${manyHashes(proof.path)} to root ${toHex(root)} of signed size ${size}`);
}

function consistencyLine({ id, config, head, reader }: Found, oldSize: number): string {
  const { size: newSize, root: newRoot } = openCheckpoint(head.note, { origin: config.origin, publicKey: config.logPublicKey });
  const path = reader.consistency(oldSize, newSize);
  checkConsistency({ oldSize, oldRoot: reader.rootAt(oldSize), newSize, newRoot, path });
  return shortened(`${id}: signed size ${newSize} extends size ${oldSize}, ${manyHashes(path)} to both roots`);
}

// ------------------------------------------------------------------ the check

function verdict(story: StoryCluster, node: string): string {
  const id = member(story.nodesByRole, node, "node");
  const config = story.config(id);
  const snap = story.snapOf(id);
  try {
    const head = lastHead(snap, config.log);
    if (head === null) return "no head yet";
    const heads = checkLog(snap, config, head);
    return `${head.size} entries, ${heads === 1 ? "1 head" : `${heads} heads`}: everything derives`;
  } catch (error) {
    if (error instanceof EngineError) return shortened(`error[${error.code}]: ${error.message}`);
    throw error;
  }
}

/** Throws at the first difference; answers how many heads were held against the entries. */
function checkLog(snap: DiskSnapshot, config: MergeConfig, head: Head): number {
  const reader = new LogReader(snap, config.log);
  const leaves = checkEntries(reader, head.size);
  checkTiles(reader, leaves);
  const key = { origin: config.origin, publicKey: config.logPublicKey };
  const published = [...snap.range("log", logKeys.head(config.log, 0), logKeys.head(config.log, head.size))];
  const heads = [...published.map(([rowKey]) => rows.head(snap, config.log, readU64be(rowKey, rowKey.length - 8) ?? 0)), head];
  for (const each of heads) {
    if (each === null) continue;
    const { size, root } = openCheckpoint(each.note, key);
    mustBe(rootOf(leaves.subarray(0, size * 32)), root, `size ${size}: folded from the entries`);
    mustBe(reader.rootAt(size), root, `size ${size}: from the tiles`);
  }
  return heads.length;
}

function checkEntries(reader: LogReader, size: number): Uint8Array {
  const leaves = new Uint8Array(size * 32);
  for (let at = 0; at < size; ) {
    const { bundle, to } = reader.entries(at, size, CHUNK_BYTES);
    const hashes = leafHashes(bundle);
    const order = reader.orderHashes(at, to);
    for (let i = 0; at + i < to; i++) {
      if (!equalBytes(hashAt(hashes, i), hashAt(order, i)))
        throw new EngineError("LOG_ENTRY_MISMATCH", `entry ${at + i} hashes to ${toHex(hashAt(hashes, i))}, the order says ${toHex(hashAt(order, i))}`);
    }
    leaves.set(hashes, at * 32);
    at = to;
  }
  return leaves;
}

/** Every upper tile from the tiles below it. */
function checkTiles(reader: LogReader, leaves: Uint8Array): void {
  let below = leaves;
  for (let level = 1; below.length >= TILE_WIDTH * 32; level++) {
    const count = Math.floor(below.length / (TILE_WIDTH * 32));
    const derived = new Uint8Array(count * 32);
    for (let i = 0; i < count; i++) derived.set(rootOf(below.subarray(i * TILE_WIDTH * 32, (i + 1) * TILE_WIDTH * 32)), i * 32);
    for (let n = 0; n * TILE_WIDTH < count; n++) {
      const width = Math.min(TILE_WIDTH, count - n * TILE_WIDTH);
      const tile = reader.tile(level, n, width);
      for (let i = 0; i < width; i++) mustBe(hashAt(tile, i), hashAt(derived, n * TILE_WIDTH + i), `hash ${i} of tile ${level}/${n}:`);
    }
    below = derived;
  }
}

const hashAt = (hashes: Uint8Array, i: number): Hash => hashes.subarray(i * 32, i * 32 + 32);
const manyHashes = (path: Uint8Array): string => (path.length === 32 ? "1 hash leads" : `${path.length / 32} hashes lead`);

function mustBe(mine: Hash, wanted: Hash, what: string): void {
  if (!equalBytes(mine, wanted)) throw new EngineError("LOG_ROOT_MISMATCH", `${what} ${toHex(mine)}, want ${toHex(wanted)}`);
}
