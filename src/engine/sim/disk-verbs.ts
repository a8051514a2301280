/**
 * Verbs about the disks of a simulated world, the same for every area: what they hold, what goes wrong with them, copies
 * of a whole folder, and a node's clock.
 */
import { fromHex } from "../base/bytes.ts";
import type { Db } from "../base/effects.ts";
import type { NodeId } from "../base/ids.ts";
import { type Scene, traced, type Verb } from "./area.ts";
import { DB_NAMES, DiskSnapshot, fileOf, flipBit, flipFileBit } from "./disk.ts";
import { runNow } from "./steer.ts";
import type { Words } from "./words.ts";
import type { WorldFace } from "./world-face.ts";

const LINES_SHOWN_MAX = 20;

export const diskVerbs: readonly Verb<Scene>[] = [
  {
    name: "disk",
    forms: ["NODE full|free", "NODE pause|resume", "NODE fail|refuse [next=COUNT]"],
    example: "disk p fail",
    summary: "no space until freed; nothing gets durable until resumed; the next flushes fail, or the next writes are refused for space",
    run: ({ world }, words) => disk(world, words),
  },
  {
    name: "flip",
    forms: ["NODE db=NAME key=HEX [bit=N]", "NODE file=PATH [bit=N]"],
    example: "flip s1 file=merge/queue.a bit=90",
    summary: "flip one bit of a stored value or of a file, behind the node's back",
    run: ({ world }, words) => flip(world, words),
  },
  {
    name: "folder",
    forms: ["NODE save=NAME", "NODE restore=NAME", "NODE wipe"],
    example: "folder p save=old",
    summary: "keep a copy of a node's folder; put it back, or an empty one: the node goes down for it and comes up again",
    run: ({ world }, words) => folder(world, words),
  },
  {
    name: "clock",
    forms: ["NODE 5s", "NODE back 5s"],
    example: "clock p back 5s",
    summary: "set a node's wall clock forward or back",
    run({ world }, words) {
      const node = words.node("node");
      const isBack = words.flag("back");
      const ms = words.duration();
      words.done();
      if (ms === null) throw words.refuse("how far is missing: 5s");
      return [`${node}: its clock is ${world.skewClock(node, isBack ? -ms : ms)}ms off`];
    },
  },
  {
    name: "ls",
    forms: ["NODE FOLDER"],
    example: "ls p merge",
    summary: "files of a node's folder, with their sizes",
    run({ world }, words) {
      const node = words.node("node");
      const path = words.text("folder");
      words.done();
      const snap = new DiskSnapshot(world.diskOf(node), node);
      const names = snap.fileList(path).map((name) => `${name}  ${snap.fileSize(`${path}/${name}`)} bytes`);
      return names.length === 0 ? [`no files in ${path}`] : names;
    },
  },
  {
    name: "cat",
    forms: ["NODE FILE"],
    example: "cat p merge/currentsize",
    summary: "the text of a file, at most 20 lines",
    run({ world }, words) {
      const node = words.node("node");
      const file = words.text("file");
      words.done();
      const bytes = fileOf(world.diskOf(node), file);
      if (bytes === undefined) return [`${node} has no ${file}`];
      const lines = new TextDecoder().decode(bytes).replace(/\n$/, "").split("\n");
      return lines.length > LINES_SHOWN_MAX ? [...lines.slice(0, LINES_SHOWN_MAX), `… ${lines.length - LINES_SHOWN_MAX} lines more`] : lines;
    },
  },
];

function disk(world: WorldFace, words: Words): string[] {
  const node = words.node("node");
  const what = words.text("what");
  const count = words.count("next", 1);
  words.done();
  const faults = world.diskFaults(node);
  switch (what) {
    case "full":
    case "free":
      faults.full = what === "full";
      return [`${node}: the disk ${faults.full ? "is full" : "has space again"}`];
    case "fail":
      faults.failNext = count;
      return [`${node}: the next ${count === 1 ? "flush" : `${count} flushes`} will fail`];
    case "refuse":
      faults.fullNext = count;
      return [`${node}: the next ${count === 1 ? "write finds" : `${count} writes find`} no space`];
    case "pause":
      world.pauseDisk(node);
      return [`${node}: nothing gets durable`];
    case "resume":
      return traced(world, () => {
        world.resumeDisk(node);
        runNow(world);
      });
    default:
      throw words.refuse(`${what} is none of full, free, pause, resume, fail, refuse`);
  }
}

function flip(world: WorldFace, words: Words): string[] {
  const node = words.node("node");
  const [file, db, hex] = [words.key("file"), words.key("db"), words.key("key")];
  const bit = words.count("bit", 0);
  words.done();
  if (file !== null) {
    world.changeDisk(node, (image) => flipFileBit(image, file, bit));
    return [`${node}: bit ${bit} of ${file} flipped`];
  }
  const key = hex === null ? null : fromHex(hex);
  const name: Db | undefined = DB_NAMES.find((each) => each === db);
  if (key === null || name === undefined) throw words.refuse(`want file=PATH, or db= (${DB_NAMES.join(", ")}) and key=HEX`);
  world.changeDisk(node, (image) => flipBit(image, name, key, bit));
  return [`${node}: bit ${bit} of a value in ${name} flipped`];
}

function folder(world: WorldFace, words: Words): string[] {
  const node = words.node("node");
  const save = words.key("save");
  const restore = words.key("restore");
  const isWipe = words.flag("wipe");
  words.done();
  if (save !== null) {
    world.saveFolder(node, save);
    return [`${node}: its folder is kept as ${save}`];
  }
  if (restore === null && !isWipe) throw words.refuse("want save=NAME, restore=NAME or wipe");
  return traced(world, () => replaceFolder(world, node, restore));
}

function replaceFolder(world: WorldFace, node: NodeId, saved: string | null): void {
  const wasUp = world.runningOn(node).length > 0;
  if (wasUp) world.crashNode(node);
  world.restoreFolder(node, saved);
  world.trace.say(`${node}: its folder is ${saved === null ? "empty" : `that of ${saved}`}`);
  if (wasUp) world.startNode(node);
  runNow(world);
}
