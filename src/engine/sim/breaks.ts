/**
 * Where runs stop (sync.md section 8): before a message arrives, once a mark was made, after a commit of a node or of one
 * key, or when a condition of the area turns true. Then whoever steers may drop, repeat or delay that very message, or
 * crash a node right there. A break is watched during a run only, and stops it once for each time.
 */
import { fromHex, utf8 } from "../base/bytes.ts";
import type { Db } from "../base/effects.ts";
import type { NodeId } from "../base/ids.ts";
import { type Tree, treeGet, treeIterate } from "../store/tree.ts";
import { DB_NAMES } from "./disk.ts";
import { type Frame, type FrameMatch, matches, matchText } from "./network.ts";
import type { Words } from "./words.ts";
import type { WorldFace } from "./world-face.ts";

export type Break = {
  readonly text: string;
  /** Begins to watch as things stand now: true as soon as it is met, asked after every event. */
  watch(): () => boolean;
};

export const BREAK_FORMS = ["COND", "message KIND [b→a]", "mark NAME", "commit NODE [db=NAME] [key=KEY]", "off"];

export function breakOf(world: WorldFace, words: Words, condition: (text: string) => () => boolean): Break {
  if (words.flag("message")) return onMessage(world, words.frames());
  if (words.flag("mark")) return onMark(world, words.text("mark"));
  if (words.flag("commit")) return onCommit(world, words);
  const text = words.text("condition");
  const holds = condition(text);
  return { text, watch: () => turned(holds) };
}

/** From false to true. */
function turned(holds: () => boolean): () => boolean {
  let before = holds();
  return () => {
    const now = holds();
    const isMet = now && !before;
    before = now;
    return isMet;
  };
}

/** Stops before it arrives, once for each message. */
function onMessage(world: WorldFace, match: FrameMatch): Break {
  const seen = new WeakSet<Frame>();
  const isNext = (): boolean => {
    const nextMs = world.nextMs();
    const due = world.courier.frames().find(({ frame, atMs }) => atMs !== null && atMs === nextMs && matches(match, frame) && !seen.has(frame));
    if (due !== undefined) seen.add(due.frame);
    return due !== undefined;
  };
  return { text: `message ${matchText(match)}`, watch: () => isNext };
}

function onMark(world: WorldFace, name: string): Break {
  const count = (): number => world.trace.marks.get(name) ?? 0;
  return {
    text: `mark ${name}`,
    watch() {
      const before = count();
      return () => count() > before;
    },
  };
}

function onCommit(world: WorldFace, words: Words): Break {
  const node = words.node("node");
  const wanted = words.key("db");
  const key = words.key("key");
  const dbs = DB_NAMES.filter((db) => wanted === null || db === wanted);
  if (dbs.length === 0) throw words.refuse(`db=${wanted}: want one of ${DB_NAMES.join(", ")}`);
  const text = `commit ${node}${wanted === null ? "" : ` db=${wanted}`}${key === null ? "" : ` key=${key}`}`;
  world.diskOf(node); // refuses a node that is not there
  return { text, watch: () => changed(world, node, dbs, key) };
}

/** Whether one of the databases is another one than before; with a key, or all keys that begin with `KEY*`, whether that is. */
function changed(world: WorldFace, node: NodeId, dbs: readonly Db[], key: string | null): () => boolean {
  let before = world.diskOf(node).dbs;
  return () => {
    const now = world.diskOf(node).dbs;
    const isMet = now !== before && dbs.some((db) => now[db] !== before[db] && (key === null || !sameAt(before[db], now[db], key)));
    before = now;
    return isMet;
  };
}

/** A value that no commit touched is the same object in both trees. */
function sameAt(before: Tree, now: Tree, key: string): boolean {
  if (!key.endsWith("*")) return treeGet(before, keyOf(key)) === treeGet(now, keyOf(key));
  const [left, right] = [rowsAt(before, keyOf(key.slice(0, -1))), rowsAt(now, keyOf(key.slice(0, -1)))];
  return left.length === right.length && left.every((value, at) => value === right[at]);
}

function rowsAt(tree: Tree, prefix: Uint8Array): Uint8Array[] {
  const values: Uint8Array[] = [];
  for (const [key, value] of treeIterate(tree, prefix)) {
    if (!prefix.every((byte, at) => key[at] === byte)) break;
    values.push(value);
  }
  return values;
}

/** `kv/key/k1`, or `0x…` in hex. */
const keyOf = (text: string): Uint8Array => (text.startsWith("0x") ? (fromHex(text.slice(2)) ?? utf8(text)) : utf8(text));
