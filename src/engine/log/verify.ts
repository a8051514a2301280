/**
 * The fsck of a log (merge.md section 4, `log verify`): reads everything a published checkpoint covers and derives it anew.
 * Signatures, strict texts, the width of each tile, each entry into its leaf hash, each upper tile from the tiles below,
 * the root twice (folded from the leaves, and from the right edge of the stored tiles), and the root at each older head.
 * Ends at the first difference with an error that names the place and both values. Never writes, never repairs.
 * Memory is bounded by what is read ahead, whatever the size. Hot: a million entries in a few seconds.
 */
import { concatBytes, equalBytes, toHex } from "../base/bytes.ts";
import { EngineError } from "../base/errors.ts";
import { HASH_BYTES, type Hash } from "../base/ids.ts";
import { type Checkpoint, openCheckpoint } from "./checkpoint.ts";
import { cosignedAt } from "./cosignature.ts";
import { BUNDLE_COUNT, bundleCount, bundleOffsets, ENTRY_BYTES_MAX, LENGTH_BYTES, sliceBundle } from "./entry.ts";
import { type Edge, EMPTY_EDGE, EMPTY_ROOT, edgeRoot, foldEdge, leafHashes } from "./merkle.ts";
import { noteText, type Vkey } from "./note.ts";
import { checkPolicy, type Policy } from "./policy.ts";
import { TILE_LEVELS, TILE_WIDTH, type TileLevel, tilePath } from "./tile.ts";

/** A published log: bytes below its address (`checkpoint`, `tile/0/000`), null where there is nothing. Called for several paths at once. */
export type LogSource = { read(path: string): Promise<Uint8Array | null> };

export type VerifyOptions = {
  /** The log's key; its name is the origin. */
  readonly vkey: Vkey;
  /** The note to verify up to, in place of the source's own `checkpoint`: an older head of the same log. */
  readonly checkpoint?: Uint8Array;
  /** Notes seen before: the log must extend each of them. */
  readonly old?: readonly Uint8Array[];
  /** Each of these must have cosigned the checkpoint. */
  readonly cosigners?: readonly Vkey[];
  readonly policy?: Policy;
  /** Told after each bundle: entries that are verified, of how many. */
  readonly onProgress?: (done: number, size: number) => void;
};

export type VerifyReport = {
  readonly checkpoint: Checkpoint;
  readonly cosigned: readonly { readonly name: string; readonly timeSeconds: number }[];
  readonly bundles: number;
  readonly tiles: number;
  /** Read in all, without the checkpoint. */
  readonly bytes: number;
};

/** Bundles read ahead of the one being hashed: enough to hide a round trip of 100 ms at 80 thousand entries a second. */
const AHEAD_COUNT_MAX = 32;
/** And fewer where bundles are large, so that memory stays below this and one bundle. */
const AHEAD_BYTES_MAX = 32 * 1_024 * 1_024;
const BUNDLE_BYTES_MAX = BUNDLE_COUNT * (LENGTH_BYTES + ENTRY_BYTES_MAX);

/** What lies below one level-0 tile. */
type Leaves = { readonly bundle: Uint8Array; readonly tile: Uint8Array };
/** One level above the leaves: hashes derived from full tiles below, of the tile that is being filled. */
type Upper = { n: number; count: number; readonly derived: Uint8Array };
type Walk = {
  readonly source: LogSource;
  readonly head: Checkpoint;
  /** Older heads that the fold has not reached yet, smallest first. */
  readonly older: Checkpoint[];
  /** By level; none at 0. */
  readonly uppers: (Upper | undefined)[];
  /** Stored partial tiles by level, where there is one: the right edge of the tree. */
  readonly rightEdge: (Uint8Array | undefined)[];
  edge: Edge;
  tiles: number;
  bytes: number;
};

/** Throws an error of exit status 7 at the first difference; NOT_FOUND where there is no checkpoint at all. */
export async function verifyLog(source: LogSource, options: VerifyOptions): Promise<VerifyReport> {
  const note = options.checkpoint ?? (await source.read("checkpoint"));
  if (note === null) throw new EngineError("NOT_FOUND", `checkpoint: there is none here; want the log ${options.vkey.name}`);
  const log = { origin: options.vkey.name, publicKey: options.vkey.publicKey };
  const head = openCheckpoint(note, log);
  const cosigned = checkCosigners(noteText(note), options);
  const older = (options.old ?? []).map((each) => openCheckpoint(each, log)).sort((a, b) => a.size - b.size);
  for (const each of older) compareHeads(each, head);
  const walk: Walk = { source, head, older: older.filter(({ size }) => size > 0), uppers: [], rightEdge: [], edge: EMPTY_EDGE, tiles: 0, bytes: 0 };
  const bundles = await walkLeaves(walk, options.onProgress);
  await checkLastUppers(walk);
  mustBeRoot(edgeRoot(walk.edge), head.root, "folded from the leaves");
  mustBeRoot(edgeRoot(rightEdgeOf(walk)), head.root, "from the right edge of the tiles");
  return { checkpoint: head, cosigned, bundles, tiles: walk.tiles, bytes: walk.bytes };
}

// ------------------------------------------------------------------ heads

function checkCosigners(note: string, { vkey, cosigners = [], policy }: VerifyOptions): VerifyReport["cosigned"] {
  const cosigned = policy === undefined ? [] : [...checkPolicy(note, policy, vkey).cosigned];
  for (const cosigner of cosigners) {
    const timeSeconds = cosignedAt(note, cosigner);
    if (timeSeconds === null) throw new EngineError("LOG_SIGNATURE", `no cosignature of ${cosigner.name} on the checkpoint`);
    if (!cosigned.some(({ name }) => name === cosigner.name)) cosigned.push({ name: cosigner.name, timeSeconds });
  }
  return cosigned;
}

/** What two heads alone can tell; the fold tells the rest. */
function compareHeads(old: Checkpoint, head: Checkpoint): void {
  if (old.size > head.size) throw new EngineError("LOG_HEAD_ROLLBACK", `checkpoint of size ${head.size}, one of size ${old.size} was seen before`);
  if (old.size === head.size && !equalBytes(old.root, head.root))
    throw new EngineError("LOG_HEAD_FORK", `size ${head.size}: the checkpoint has root ${toHex(head.root)}, the older one ${toHex(old.root)}`);
  if (old.size === 0 && !equalBytes(old.root, EMPTY_ROOT))
    throw new EngineError("LOG_ROOT_MISMATCH", `size 0: the older checkpoint has root ${toHex(old.root)}, an empty tree ${toHex(EMPTY_ROOT)}`);
}

// ------------------------------------------------------------------ leaves

async function walkLeaves(walk: Walk, onProgress: VerifyOptions["onProgress"]): Promise<number> {
  const { size } = walk.head;
  const bundles = Math.ceil(size / TILE_WIDTH);
  const inFlight: Promise<Leaves>[] = [];
  let asked = 0;
  let bytesMax = 1; // of the bundles seen so far
  for (let n = 0; n < bundles; n++) {
    const ahead = Math.min(AHEAD_COUNT_MAX, 2 + n, 1 + Math.floor(AHEAD_BYTES_MAX / bytesMax));
    for (; asked < bundles && asked < n + ahead; asked++) inFlight.push(silenced(readLeaves(walk, asked)));
    const leaves = await (inFlight.shift() as Promise<Leaves>);
    bytesMax = Math.max(bytesMax, leaves.bundle.length);
    await checkLeaves(walk, n, leaves);
    onProgress?.(walk.edge.size, size);
  }
  return bundles;
}

/** A read that is still under way when the walk ends early must not count as an error that nobody handles. */
function silenced<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => undefined);
  return promise;
}

async function readLeaves(walk: Walk, n: number): Promise<Leaves> {
  const width = widthOf(walk, 0, n);
  const [bundle, tile] = await Promise.all([readBundle(walk, n, width), readTile(walk, 0, n, width)]);
  return { bundle, tile };
}

async function checkLeaves(walk: Walk, n: number, { bundle, tile }: Leaves): Promise<void> {
  const hashes = leafHashes(bundle);
  const wrong = firstDifference(hashes, tile);
  if (wrong !== null) {
    const index = n * TILE_WIDTH + wrong;
    throw new EngineError("LOG_ENTRY_MISMATCH", `entry ${index} hashes to ${hashText(hashes, wrong)}, ${tilePath(0, n)} says ${hashText(tile, wrong)}`);
  }
  if (tile.length < TILE_WIDTH * HASH_BYTES) walk.rightEdge[0] = tile;
  for (let from = 0; from < hashes.length; ) {
    const next = walk.older[0]; // its root is known once exactly its leaves are folded
    const room = next === undefined ? hashes.length : (next.size - walk.edge.size) * HASH_BYTES;
    const to = Math.min(hashes.length, from + room);
    walk.edge = foldEdge(walk.edge, hashes.subarray(from, to), (level, nodes) => takeNodes(walk, level, nodes));
    from = to;
    while (walk.older[0]?.size === walk.edge.size) checkOlder(walk.older.shift() as Checkpoint, walk.edge);
  }
  await checkFullUppers(walk);
}

function checkOlder(old: Checkpoint, edge: Edge): void {
  const root = edgeRoot(edge);
  if (!equalBytes(root, old.root))
    throw new EngineError("LOG_ROOT_MISMATCH", `size ${old.size}: the log's root is ${toHex(root)}, the older checkpoint says ${toHex(old.root)}`);
}

// ------------------------------------------------------------------ upper tiles

/** Keeps what the fold completed on the levels that tiles store: 8, 16, 24… Level 0 was compared already. */
function takeNodes(walk: Walk, level: number, nodes: Uint8Array): void {
  if (level === 0 || level % TILE_LEVELS !== 0 || nodes.length === 0) return;
  const slot = level / TILE_LEVELS;
  const upper = walk.uppers[slot] ?? { n: 0, count: 0, derived: new Uint8Array(TILE_WIDTH * HASH_BYTES) };
  walk.uppers[slot] = upper;
  upper.derived.set(nodes, upper.count * HASH_BYTES); // one at a time: leaves come by tiles of 256 at most
  upper.count += nodes.length / HASH_BYTES;
}

async function checkFullUppers(walk: Walk): Promise<void> {
  for (const [level, upper] of walk.uppers.entries()) {
    if (upper === undefined || upper.count < TILE_WIDTH) continue;
    await checkUpper(walk, level, upper);
    upper.n++;
    upper.count = 0;
  }
}

async function checkLastUppers(walk: Walk): Promise<void> {
  for (const [level, upper] of walk.uppers.entries()) {
    if (upper === undefined || upper.count === 0) continue;
    walk.rightEdge[level] = await checkUpper(walk, level, upper);
  }
}

async function checkUpper(walk: Walk, level: number, upper: Upper): Promise<Uint8Array> {
  const stored = await readTile(walk, level, upper.n, upper.count);
  const wrong = firstDifference(upper.derived.subarray(0, stored.length), stored);
  if (wrong !== null) {
    const below = tilePath(level - 1, upper.n * TILE_WIDTH + wrong);
    throw new EngineError(
      "LOG_ROOT_MISMATCH",
      `${tilePath(level, upper.n, upper.count)}: hash ${wrong} is ${hashText(stored, wrong)}, ${below} folds to ${hashText(upper.derived, wrong)}`,
    );
  }
  return stored;
}

/** The bits of the size that a tile level spans are the width of its partial tile, so its nodes are that tile's own edge. */
function rightEdgeOf({ head, rightEdge }: Walk): Edge {
  const parts = [...rightEdge].reverse().flatMap((tile) => (tile === undefined ? [] : foldEdge(EMPTY_EDGE, tile).nodes));
  return { size: head.size, nodes: concatBytes(...parts) };
}

function mustBeRoot(computed: Hash, signed: Hash, how: string): void {
  if (!equalBytes(computed, signed)) throw new EngineError("LOG_ROOT_MISMATCH", `the root ${how} is ${toHex(computed)}, the checkpoint says ${toHex(signed)}`);
}

// ------------------------------------------------------------------ reading

/** Width of tile n of a level in the tree of the checkpoint. */
const widthOf = ({ head }: Walk, level: number, n: number): number => Math.min(TILE_WIDTH, Math.floor(head.size / TILE_WIDTH ** level) - n * TILE_WIDTH);

async function readTile(walk: Walk, level: number, n: number, width: number): Promise<Uint8Array> {
  const { path, bytes, fullWidth } = await readPiece(walk, level, n, width);
  if (bytes.length !== fullWidth * HASH_BYTES) throw new EngineError("LOG_ENCODING", `${path}: ${bytes.length} bytes, want ${fullWidth * HASH_BYTES}`);
  walk.tiles++;
  return bytes.subarray(0, width * HASH_BYTES);
}

async function readBundle(walk: Walk, n: number, width: number): Promise<Uint8Array> {
  const { path, bytes, fullWidth } = await readPiece(walk, "entries", n, width);
  if (bytes.length > BUNDLE_BYTES_MAX) throw new EngineError("LOG_ENCODING", `${path}: ${bytes.length} bytes, at most ${BUNDLE_BYTES_MAX}`);
  const count = countEntries(path, bytes);
  if (count !== fullWidth) throw new EngineError("LOG_ENCODING", `${path}: ${count} entries, want ${fullWidth}`);
  return width === fullWidth ? bytes : sliceBundle(bytes, bundleOffsets(bytes), { from: 0, to: width });
}

function countEntries(path: string, bundle: Uint8Array): number {
  try {
    return bundleCount(bundle);
  } catch (cause) {
    throw new EngineError("LOG_ENCODING", `${path}: ${cause instanceof Error ? cause.message : "no bundle"}`, { cause });
  }
}

/** A partial piece, or the full one that took its place when the log grew: its prefix is the same. */
async function readPiece(walk: Walk, level: TileLevel, n: number, width: number): Promise<{ path: string; bytes: Uint8Array; fullWidth: number }> {
  const path = tilePath(level, n, width);
  let found = { path, bytes: await walk.source.read(path), fullWidth: width };
  if (found.bytes === null && width < TILE_WIDTH) {
    const fullPath = tilePath(level, n);
    found = { path: fullPath, bytes: await walk.source.read(fullPath), fullWidth: TILE_WIDTH };
  }
  const { bytes } = found;
  if (bytes === null) throw new EngineError("LOG_ENCODING", `${path}: missing; the checkpoint's size ${walk.head.size} needs it`);
  walk.bytes += bytes.length;
  return { ...found, bytes };
}

/** Index of the first hash that differs, or null. */
function firstDifference(a: Uint8Array, b: Uint8Array): number | null {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return Math.floor(i / HASH_BYTES);
  return null;
}

const hashText = (hashes: Uint8Array, i: number): string => toHex(hashes.subarray(i * HASH_BYTES, (i + 1) * HASH_BYTES));
