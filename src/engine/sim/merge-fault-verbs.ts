/**
 * Verbs of the merge for what goes wrong and what people do about it: settings, lies, latches, damaged rows and files.
 * They change the world behind the cores' backs; what the cores make of it is the story.
 */
import { fromUtf8, utf8 } from "../base/bytes.ts";
import { EngineError } from "../base/errors.ts";
import type { LogId, NodeId } from "../base/ids.ts";
import { BUNDLE_COUNT } from "../log/entry.ts";
import { latchFile, readLatch } from "../merge/files.ts";
import { logKeys } from "../store/keys.ts";
import { treeGet, treePut } from "../store/tree.ts";
import { encodeStored, payloadOf } from "../store/value.ts";
import type { Verb } from "./area.ts";
import { applyFlush, type DiskImage, fileOf, flipBit, setFile } from "./disk.ts";
import { statusLine, told } from "./merge-report.ts";
import type { Knobs } from "./merge-story.ts";
import { type MergeScene, member } from "./merge-verbs.ts";
import { runNow } from "./steer.ts";
import type { Words } from "./words.ts";

/** Behind format bytes and lengths, which would tell by themselves, and within the digits that stories show. */
const BIT = 24;

export const mergeFaultVerbs: readonly Verb<MergeScene>[] = [
  {
    name: "knob",
    forms: ["[NODE…] [quorum=N] [storagequorum=N] [cosign=prefer|require] [promise=MS] [epoch=N]"],
    example: "knob quorum=2",
    summary: "turn settings of some nodes, or of all; they start anew with them",
    run: (scene, words) => knob(scene, words),
  },
  {
    name: "liar",
    forms: ["NODE on", "NODE off"],
    example: "liar s1 on",
    summary: "a secondary that answers another root than it computed, or the truth again",
    run({ story }, words) {
      const id = member(story.shape.secondaries, words.text("node"), "secondary");
      const isOn = words.flag("on");
      if (!isOn && !words.flag("off")) throw words.refuse("want on or off");
      if (isOn) story.liars.add(id);
      else story.liars.delete(id);
      return [`${id}: ${isOn ? "answers roots that it makes up" : "answers what it computes"}`];
    },
  },
  {
    name: "latch",
    forms: ["[WHY]"],
    example: 'latch "disk replaced, to be looked at"',
    summary: "what stopped the signer; with words, stop it by hand",
    run({ story }, words) {
      const why = words.rest().join(" ");
      const config = story.config(story.primary);
      if (why !== "") {
        story.checkers.doubtful = true;
        const file = latchFile(config, { code: "FAILED", detail: why, timeMs: story.timeMs(story.primary) });
        story.world.changeDisk(story.primary, (disk) => applyFlush(disk, file));
      }
      const latch = readLatch(story.snapOf(story.primary), config);
      if (latch.kind === "missing") return [`${story.primary}: nothing is latched`];
      return [`${story.primary}: latched, ${latch.kind === "ok" ? `${latch.value.code}: ${latch.value.detail}` : latch.why}`];
    },
  },
  {
    name: "unlatch",
    forms: [""],
    example: "unlatch",
    summary: "let queue and dist run again, as `merge unlatch --yes` does",
    run({ story }) {
      const { folder } = story.config(story.primary);
      if (fileOf(story.world.diskOf(story.primary), `${folder}/latch`) === undefined) throw new EngineError("NOT_FOUND", `${folder}/latch: nothing is latched`);
      story.world.changeDisk(story.primary, (disk) => applyFlush(disk, { change: "rename", file: `${folder}/latch`, to: `${folder}/latch.cleared` }));
      return [`${story.primary}: the latch is lifted`];
    },
  },
  {
    name: "space",
    forms: ["NODE low", "NODE enough"],
    example: "space a low",
    summary: "the node tells its storage role how much of the disk is free",
    run({ story }, words) {
      const node = member(story.shape.storages, words.text("node"), "storage node");
      const low = words.flag("low");
      if (!low && !words.flag("enough")) throw words.refuse("want low or enough");
      return told(story, () => {
        story.world.request(node, { kind: "space", low });
        runNow(story.world);
        return [];
      });
    },
  },
  {
    name: "flip",
    forms: ["NODE entry=INDEX [bit=N]", "NODE tile=L/N [bit=N]", "NODE seq=FIRST [bit=N]"],
    example: "flip f entry=7",
    summary: "flip one bit of the row that holds an entry, a tile, or what a storage node took from a sequence number on: its checksum tells",
    run: (scene, words) => damage(scene, words, (disk, key, bit) => flipBit(disk, "log", key, bit), "flipped"),
  },
  {
    name: "forge",
    forms: ["NODE entry=INDEX [bit=N]", "NODE tile=L/N [bit=N]", "NODE seq=FIRST [bit=N]"],
    example: "forge p entry=7",
    summary: "the same, with a checksum that fits: only hashing tells",
    run: (scene, words) => damage(scene, words, forged, "forged"),
  },
  {
    name: "file",
    forms: ["NODE PATH cut=BYTES", "NODE PATH find=TEXT put=TEXT", "NODE PATH text=LINE", "NODE PATH remove"],
    example: "file p merge/queue.a cut=10",
    summary: "damage a file by hand: cut its end, change a text in it, write one line, remove it",
    run: (scene, words) => file(scene, words),
  },
  {
    name: "folder",
    forms: ["NODE restore=NAME", "NODE wipe"],
    example: "folder s1 wipe",
    summary: "the same; whoever watches the invariants remembers what that disk has sworn to, and forgets what it must not lose",
    run({ story }, words) {
      const node = words.optional("node");
      const isWipe = words.flag("wipe");
      const id = story.nodeIds.find((each) => each === node);
      if (id === undefined || !(isWipe || words.has("restore"))) return null;
      story.checkers.doubtful ||= !isWipe || id === story.primary;
      story.checkers.diskReplaced(id);
      return null; // the world's verb of that name does it
    },
  },
];

function knob({ story }: MergeScene, words: Words): string[] {
  const knobs: Knobs = {};
  if (words.has("quorum")) knobs.backupquorum = words.count("quorum", 0);
  if (words.has("storagequorum")) knobs.storagequorum = words.count("storagequorum", 1);
  if (words.has("promise")) knobs.promiseMs = words.count("promise", 0);
  if (words.has("epoch")) knobs.epoch = words.count("epoch", 1);
  if (words.has("cosign")) knobs.cosign = words.oneOf("cosign", ["prefer", "require"], "prefer");
  if (Object.keys(knobs).length === 0) throw words.refuse("no setting is given");
  const named = words.rest().map((name) => member(story.nodesByRole, name, "node"));
  const ids: readonly NodeId[] = named.length === 0 ? story.nodesByRole : named;
  return told(story, () => {
    const { trace } = story.world;
    trace.recording = false; // that they start anew is said below
    story.turn(ids, knobs);
    runNow(story.world);
    trace.recording = true;
    const said = Object.entries(knobs).map(([name, value]) => `${name} = ${value}`);
    return [`${ids.length === story.nodesByRole.length ? "all" : ids.join(" ")}: ${said.join(", ")}; ${statusLine(story)}`];
  });
}

type Damage = (disk: DiskImage, key: Uint8Array, bit: number) => DiskImage;

/** Null where none of its rows is named: then it is the world's verb. */
function damage({ story }: MergeScene, words: Words, change: Damage, done: string): string[] | null {
  const node = member(story.nodesByRole, words.text("node"), "node");
  const row = rowNamed(story.world.diskOf(node), story.config(node).log, words);
  if (row === null) return null;
  const bit = words.count("bit", BIT);
  story.checkers.doubtful = true;
  story.world.changeDisk(node, (disk) => change(disk, row.key, bit));
  return [`${node}: one bit of ${row.what} ${done}`];
}

function rowNamed(disk: DiskImage, log: LogId, words: Words): { readonly key: Uint8Array; readonly what: string } | null {
  if (words.has("seq")) {
    const seq = words.count("seq", 0);
    return { key: logKeys.pending(log, seq), what: `pending row ${seq}` };
  }
  if (words.has("entry")) {
    const index = words.count("entry", 0);
    return { key: entryKey(disk, log, index), what: `entry ${index}` };
  }
  const tile = words.key("tile");
  return tile === null ? null : { key: tileKey(log, tile, words), what: `tile ${tile}` };
}

/** The row of an entry: a bundle of 256, or the entry alone. */
function entryKey(disk: DiskImage, log: LogId, index: number): Uint8Array {
  const bundle = logKeys.bundle(log, Math.floor(index / BUNDLE_COUNT));
  return treeGet(disk.dbs.log, bundle) === undefined ? logKeys.tail(log, index) : bundle;
}

function tileKey(log: LogId, text: string, words: Words): Uint8Array {
  const [, level, n] = /^(\d{1,2})\/(\d{1,9})$/.exec(text) ?? [];
  if (level === undefined) throw words.refuse(`tile is ${text}, want L/N`);
  return level === "0" ? logKeys.order(log, Number(n)) : logKeys.tile(log, Number(level), Number(n));
}

function forged(disk: DiskImage, key: Uint8Array, bit: number): DiskImage {
  const stored = treeGet(disk.dbs.log, key);
  if (stored === undefined) throw new EngineError("NOT_FOUND", "log has no such row");
  const payload = payloadOf(stored).slice();
  const at = (bit >> 3) % payload.length;
  payload[at] = (payload[at] as number) ^ (1 << (bit & 7));
  return { ...disk, dbs: { ...disk.dbs, log: treePut(disk.dbs.log, key, encodeStored(key, payload, 0)) } };
}

function file({ story }: MergeScene, words: Words): string[] {
  const node = member(story.nodesByRole, words.text("node"), "node");
  const path = words.text("path");
  const old = fileOf(story.world.diskOf(node), path);
  const [find, put, text] = [words.key("find"), words.key("put"), words.key("text")];
  const isCut = words.has("cut");
  const cut = words.count("cut", 0);
  const isRemove = words.flag("remove");
  words.done();
  if (text === null && old === undefined) throw new EngineError("NOT_FOUND", `${node} has no ${path}`);
  story.checkers.doubtful = true;
  const set = (bytes: Uint8Array | null): void => story.world.changeDisk(node, (disk) => setFile(disk, path, bytes));
  const before = old ?? new Uint8Array(0);
  if (isRemove) {
    set(null);
    return [`${node}: ${path} removed`];
  }
  if (isCut) {
    set(before.subarray(0, Math.max(0, before.length - cut)));
    return [`${node}: ${path} cut from ${before.length} to ${Math.max(0, before.length - cut)} bytes`];
  }
  if (text !== null) {
    set(utf8(`${text}\n`));
    return [`${node}: ${path} written`];
  }
  if (find === null || put === null) throw words.refuse("want cut=, find= with put=, text= or remove");
  const content = fromUtf8(before);
  if (!content.includes(find)) throw new EngineError("NOT_FOUND", `${path} does not contain ${find}`);
  set(utf8(content.replace(find, () => put)));
  return [`${node}: ${path} changed`];
}
