/**
 * The one table of key prefixes: given a raw key, it says which module wrote it. Keys of the `log` database begin
 * with the log's 8-byte id, then a one-byte tag from here, so that one log is one range.
 */
import { concatBytes, u64be, utf8 } from "../base/bytes.ts";
import type { LogId } from "../base/ids.ts";
import { KEY_BYTES_MAX } from "./types.ts";

const tagBytes = new Map<string, Uint8Array>();

function key(log: LogId, tag: string, ...rest: readonly Uint8Array[]): Uint8Array {
  const bytes = tagBytes.get(tag) ?? utf8(tag);
  tagBytes.set(tag, bytes);
  return concatBytes(log, bytes, ...rest);
}

/** `log` database (merge.md section 6). Numbers are 8 bytes big-endian: they sort as numbers do. */
export const logKeys = {
  /** Up to 256 leaf hashes of tile n: also the level-0 tile. */
  order: (log: LogId, tile: number) => key(log, "o", u64be(tile)),
  /** Hashes of tile (level ≥ 1, n); only complete subtrees below. */
  tile: (log: LogId, level: number, n: number) => key(log, "t", Uint8Array.of(level), u64be(n)),
  /** A full bundle of 256 entries. */
  bundle: (log: LogId, n: number) => key(log, "b", u64be(n)),
  /** Single entries behind the last full bundle: at most 255. */
  tail: (log: LogId, index: number) => key(log, "a", u64be(index)),
  /** Size, root and right-edge hashes: all that appending needs. */
  edge: (log: LogId) => key(log, "e"),
  /** Sizes of a copy: order, stored; and the proven size and root. */
  copy: (log: LogId) => key(log, "y"),
  /** Epoch and primary this node promised to follow, and the pairs it was told. */
  fence: (log: LogId) => key(log, "f"),
  /** The highest head this node cosigned or published, with its note. */
  published: (log: LogId) => key(log, "p"),
  cosigned: (log: LogId) => key(log, "g"),
  /** Each head this node published, by size: note bytes. */
  head: (log: LogId, size: number) => key(log, "h", u64be(size)),
  /** The signer's candidate. */
  stage: (log: LogId) => key(log, "s"),
  /** The signer's open gate: for which run of the daemon, and the floor it met. */
  gate: (log: LogId) => key(log, "k"),
  /** The queue handler's cursor of one storage node. */
  cursor: (log: LogId, storage: string) => key(log, "c", utf8(storage)),
  /** Storage sequence numbers that the order of this size covers. */
  covered: (log: LogId, size: number) => key(log, "v", u64be(size)),
  /** Storage role: entries by arrival, packed by accepted batch under their first sequence number. */
  pending: (log: LogId, seq: number) => key(log, "q", u64be(seq)),
  /** Storage role: a receipt batch, by its first sequence number. */
  receipt: (log: LogId, batch: number) => key(log, "r", u64be(batch)),
  /** Storage role: the name of its disk, and counters (next sequence number, settled up to). */
  storage: (log: LogId) => key(log, "n"),
  /** Hash index: space `i` maps leaf hashes to log indexes, `j` to storage sequence numbers. */
  index: (log: LogId, space: "i" | "j", rest: Uint8Array) => key(log, space, rest),
} as const;

/** `local` database: what is this node's own. */
export const localKeys = {
  /** The register's record before Paxos exists. */
  register: (log: LogId) => concatBytes(utf8("merge/register/"), log),
  birth: () => utf8("node/birth"),
  /** Set while the store is being replaced: the node does not vote, lead, serve or provide. */
  synchronizing: () => utf8("sync/synchronizing"),
  /** Below this version the node never serves again; stays when the flag falls. */
  syncFloor: () => utf8("sync/floor"),
  /** How far the copy is durable. */
  syncCursor: () => utf8("sync/cursor"),
} as const;

/** `accepts` database: what this member's vote rests on, one flush a commit (sync.md 3.5). */
export const acceptsKeys = {
  /** Epoch and newest promise of this member. */
  vote: () => utf8("paxos/vote"),
  /** What this member accepted and does not know to be applied. */
  accepted: (version: number) => concatBytes(utf8("paxos/accepted/"), u64be(version)),
  /** What a member is remembered to have acked to this one, by its number. */
  peer: (member: number) => concatBytes(utf8("paxos/peer/"), u64be(member)),
  /** Set once a peer remembered more than this disk shows: it is an old copy. */
  regressed: () => utf8("paxos/regressed"),
} as const;

/** `replicated` database: what Paxos decides, equal on all nodes at equal version (sync.md 3.8). */
export const replicatedKeys = {
  /** The encoded batch of a version. */
  version: (version: number) => concatBytes(utf8("paxos/"), u64be(version)),
  first: () => utf8("paxos/first"),
  last: () => utf8("paxos/last"),
  /** Under which ballot the newest version was first proposed: two proposals of one version are never the same bytes. */
  proposer: () => utf8("paxos/proposer"),
  /** Members with their births, as of the last change. */
  clusterMap: () => utf8("cluster/map"),
  /** Runs of a node's process. */
  boot: (node: string) => utf8(`cluster/boot/${node}`),
  /** A key of the service `kv`: apart from the service's own rows, whatever the user calls it. */
  kv: (user: Uint8Array) => concatBytes(utf8("kv/key/"), user),
  register: (log: LogId) => concatBytes(utf8("log/register/"), log),
  /** A service's own counter: +1 with each batch that touches it, its oldest kept history row, and its format. */
  serviceFirst: (service: string) => utf8(`${service}/first`),
  serviceLast: (service: string) => utf8(`${service}/last`),
  serviceFormat: (service: string) => utf8(`${service}/format`),
  history: (service: string, n: number) => concatBytes(utf8(`${service}/hist/`), u64be(n)),
} as const;

/** Tag → owner and meaning, for `store dump` and errors. */
const logTags: Readonly<Record<string, readonly [owner: string, what: string]>> = {
  o: ["log", "order"],
  t: ["log", "tile"],
  b: ["log", "bundle"],
  a: ["log", "tail entry"],
  e: ["log", "edge"],
  y: ["merge", "copy sizes"],
  f: ["merge", "fence"],
  p: ["merge", "published head"],
  g: ["merge", "cosigned head"],
  h: ["merge", "head"],
  s: ["merge", "stage"],
  k: ["merge", "gate"],
  c: ["merge", "queue cursor"],
  v: ["merge", "covered sequence numbers"],
  q: ["merge", "pending entries"],
  r: ["merge", "receipts"],
  n: ["merge", "storage counters"],
  i: ["log", "hash index"],
  j: ["merge", "storage hash index"],
};

/** No key comes behind it. */
export const LAST_KEY = new Uint8Array(KEY_BYTES_MAX).fill(0xff);

/** The first key behind this one that a store may hold; null where there is none. */
export function keyBehind(key: Uint8Array): Uint8Array | null {
  if (key.length < KEY_BYTES_MAX) return concatBytes(key, Uint8Array.of(0));
  let end = key.length;
  while (end > 0 && key[end - 1] === 0xff) end--;
  if (end === 0) return null;
  const next = key.slice(0, end);
  next[end - 1] = (next[end - 1] as number) + 1;
  return next;
}

/** Which module wrote this key, and what it is. */
export function keyOwner(db: string, raw: Uint8Array): { owner: string; what: string } {
  if (db === "log" && raw.length > 8) {
    const tag = logTags[String.fromCharCode(raw[8] as number)];
    if (tag !== undefined) return { owner: tag[0], what: tag[1] };
  }
  if (db === "replicated") return replicatedOwner(raw);
  if (db === "local" || db === "accepts") {
    const text = String.fromCharCode(...raw.subarray(0, 16));
    if (text.startsWith("merge/register/")) return { owner: "merge", what: "register" };
    if (text.startsWith("paxos/accepted/")) return { owner: "paxos", what: "accepted entry" };
    if (text.startsWith("paxos/")) return { owner: "paxos", what: text.slice(6) };
    if (text.startsWith("sync/")) return { owner: "sync", what: text.slice(5) };
    if (text.startsWith("node/")) return { owner: "node", what: text.slice(5) };
  }
  return { owner: "unknown", what: "unknown" };
}

/** The part before the first slash owns a key: a service, or Paxos itself. */
function replicatedOwner(raw: Uint8Array): { owner: string; what: string } {
  const text = String.fromCharCode(...raw.subarray(0, 24));
  const slash = text.indexOf("/");
  if (slash < 1) return { owner: "unknown", what: "unknown" };
  const [owner, rest] = [text.slice(0, slash), text.slice(slash + 1)];
  const what = owner === "paxos" && rest !== "first" && rest !== "last" ? "version" : (/^[a-z]+/.exec(rest)?.[0] ?? "row");
  return { owner, what };
}
