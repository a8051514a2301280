/**
 * The verbs that every simulated world has (style.md section 4), as data: help, completion and the checks are made from
 * this table. They steer time, messages, nodes and links, and know nothing of what messages mean.
 */
import type { Db } from "../base/effects.ts";
import { EngineError } from "../base/errors.ts";
import type { NodeId } from "../base/ids.ts";
import { keyOwner } from "../store/keys.ts";
import { keyText } from "../store/value.ts";
import { type OpenScene, type Scene, traced, type Verb } from "./area.ts";
import type { Break } from "./breaks.ts";
import { DB_NAMES, diffDisks } from "./disk.ts";
import { diskVerbs } from "./disk-verbs.ts";
import { type Frame, matches, matchText } from "./network.ts";
import type { BoundaryKind, CrashPoint } from "./process.ts";
import { RUN_MS_MAX, type RunEnd, runFor, runNow, runUntil } from "./steer.ts";
import { foldMarks } from "./trace.ts";
import type { Words } from "./words.ts";
import type { WorldFace } from "./world-face.ts";

/** What the world verbs act on: the open scene, and where runs are to stop. */
export type StoryScene = Scene & { readonly open: OpenScene; readonly breaks: Break[] };

const KEEPS = ["none", "torn", "all", "random"] as const;
const DIFFERENCES_SHOWN_MAX = 8;

export const worldVerbs: readonly Verb<StoryScene>[] = [
  {
    name: "status",
    forms: [""],
    example: "status",
    summary: "what the cluster looks like now",
    run: ({ open }) => open.status(),
  },
  {
    name: "queue",
    forms: [""],
    example: "queue",
    summary: "messages in flight and held, and armed timers, each with its time",
    run: ({ world }) => queueLines(world),
  },
  {
    name: "step",
    forms: ["[COUNT]"],
    example: "step 3",
    summary: "let the next thing happen, or so many",
    run({ world }, words) {
      const count = Number(words.next(/^\d{1,6}$/) ?? "1");
      words.done();
      return traced(world, () => {
        for (let i = 0; i < count && world.step(); i++);
      });
    },
  },
  {
    name: "run",
    forms: ["[50ms] [until=COND] [show=all|marks|none|WHAT,…]"],
    example: "run 50ms until=signed(100)",
    summary: "let time pass: so long, until a condition holds, or until only periodic timers are left; show=sync,sync.chunk,commits: marks, messages, commits",
    run: (scene, words) => run(scene, words),
  },
  {
    name: "deliver",
    forms: ["KIND b→a"],
    example: "deliver copy.where p→s1",
    summary: "the oldest such message in flight or held arrives now",
    run({ world }, words) {
      const frame = oneFrame(world, words);
      return traced(world, () => {
        world.courier.pluck(frame);
        world.arrive(frame);
        runNow(world);
      });
    },
  },
  {
    name: "drop",
    forms: ["KIND b→a [next=COUNT]"],
    example: "drop backup.verified s1→p",
    summary: "the oldest such message in flight or held is lost; with next=, so many that will be sent",
    run({ world }, words) {
      if (words.has("next")) {
        const count = words.count("next", 1);
        const match = words.frames();
        words.done();
        world.network.dropNext(match, count);
        return [`the next ${count} ${matchText(match)} will be lost`];
      }
      const frame = oneFrame(world, words);
      world.courier.pluck(frame);
      return [`${world.courier.lineOf(frame)}  (dropped)`];
    },
  },
  {
    name: "dup",
    forms: ["KIND b→a"],
    example: "dup storage.list p→a",
    summary: "a copy of the oldest such message in flight, or else of the last one delivered, arrives now",
    run({ world }, words) {
      const match = words.frames();
      words.done();
      const frame = world.courier.frames().find((each) => matches(match, each.frame))?.frame ?? world.network.lastDelivered(match);
      if (frame === undefined) throw new EngineError("NOT_FOUND", `no message ${matchText(match)} is in flight or was delivered`);
      return traced(world, () => {
        world.arrive(world.courier.copyOf(frame));
        runNow(world);
      });
    },
  },
  {
    name: "delay",
    forms: ["KIND b→a 50ms", "b→a 50ms"],
    example: "delay p→s1 50ms",
    summary: "the oldest such message arrives so much later; with a route alone, everything on that link from now on",
    run: ({ world }, words) => delay(world, words),
  },
  {
    name: "hold",
    forms: ["[KIND] [b→a]"],
    example: "hold backup.verified s1→p",
    summary: "such messages are kept back from now on, until they are released",
    run({ world }, words) {
      const match = words.frames();
      words.done();
      world.network.hold(match);
      for (const { frame, atMs } of world.courier.frames()) if (atMs !== null && matches(match, frame)) holdFrame(world, frame);
      return [`holding ${matchText(match)}`];
    },
  },
  {
    name: "release",
    forms: ["[KIND] [b→a]"],
    example: "release backup.verified s1→p",
    summary: "what was held goes on its way, and is held no longer",
    run({ world }, words) {
      const match = words.frames();
      words.done();
      const frames = world.network.release(match);
      for (const frame of frames) world.courier.launch(frame, 0);
      return [`released ${frames.length} ${matchText(match)}`];
    },
  },
  {
    name: "partition",
    forms: ["b→a", "a,b c [d …]"],
    example: "partition p,s1 s2",
    summary: "cut one direction of a link, or all links between groups of nodes",
    run: ({ world }, words) => partition(world, words),
  },
  {
    name: "heal",
    forms: ["[b→a]"],
    example: "heal",
    summary: "mend one direction of a link, or every cut, delay and loss",
    run({ world }, words) {
      const route = words.route();
      words.done();
      if (route === null) world.network.heal();
      else world.network.heal(route.from, route.to);
      return [route === null ? "all links are whole" : `${route.from}→${route.to} is whole`];
    },
  },
  {
    name: "crash",
    forms: ["NODE [process=NAME] [keep=none|torn|all|random]", "NODE at=KIND[:WHAT] [when=before|after] [nth=N] [process=NAME] [keep=none|torn|all|random]"],
    example: "crash p at=commit:log when=after",
    summary: "power cut, or the end of one process: at once, or when it gets to a point: send, answer, commit, append, replace, mark, …",
    run: ({ world }, words) => crash(world, words),
  },
  {
    name: "start",
    forms: ["NODE"],
    example: "start p",
    summary: "start what a node runs, on the disk it left",
    run({ world }, words) {
      const node = words.node("node");
      words.done();
      return traced(world, () => {
        world.startNode(node);
        runNow(world);
      });
    },
  },
  {
    name: "pause",
    forms: ["NODE"],
    example: "pause s1",
    summary: "stop a node in its tracks, as SIGSTOP does",
    run({ world }, words) {
      const node = words.node("node");
      words.done();
      world.pauseNode(node);
      return [`${node}: paused`];
    },
  },
  {
    name: "resume",
    forms: ["NODE"],
    example: "resume s1",
    summary: "let a paused node go on",
    run({ world }, words) {
      const node = words.node("node");
      words.done();
      world.resumeNode(node);
      return [`${node}: goes on`];
    },
  },
  {
    name: "diff",
    forms: ["NODE NODE [db=NAME]"],
    example: "diff p s1 db=log",
    summary: "keys whose values differ on two nodes' disks",
    run: ({ world }, words) => diff(world, words),
  },
  ...diskVerbs,
];

/** An error as a story shows it. */
export const errorLine = (code: string, detail: string): string => `error[${code}]: ${detail}`;

function run({ world, open, breaks }: StoryScene, words: Words): readonly string[] {
  const forMs = words.duration();
  const until = words.key("until");
  const shownOf = shown(words);
  words.done();
  const isMet = until === null ? () => false : open.condition(until);
  const watched = breaks.map(({ text, watch }) => ({ text, isHit: watch() }));
  let broke: string | null = null;
  const stops = (): boolean => {
    if (isMet()) return true;
    broke = watched.find(({ isHit }) => isHit())?.text ?? null;
    return broke !== null;
  };
  const before = world.trace.position;
  const end: RunEnd = forMs === null ? runUntil(world, stops) : runFor(world, forMs, stops);
  const lines = world.trace.since(before);
  const told = shownOf(lines);
  if (until !== null && isMet()) return told;
  if (broke !== null) return [...told, `break: ${broke}`];
  if (end === "bound") return [...told, errorLine("TIMEOUT", `still busy after ${forMs ?? RUN_MS_MAX} ms of virtual time`)];
  if (until !== null)
    return [...told, errorLine("TIMEOUT", `${until} does not hold: ${end === "time" ? `${forMs} ms have passed` : "nothing is left to happen"}`)];
  return told;
}

const MARK = /\[([\w-]+)\.([\w-]+)\]$/;
const ORDINARY = /^(late-|unheard$)/;
const MESSAGE = /^\S+ → \S+ +(\S+)/;
const COMMIT = /^\S+: \w+ committed, /;

/**
 * `show=`: everything, every mark, nothing, or a list: areas of marks (without what comes late in ordinary traffic), marks and
 * kinds of messages by their name, and `commits`.
 */
function shown(words: Words): (lines: readonly string[]) => readonly string[] {
  const show = words.key("show") ?? "all";
  if (show === "all" || show === "none") return (lines) => (show === "all" ? lines : []);
  if (show === "marks") return (lines) => lines.filter((line) => MARK.test(line));
  const wanted = new Set(show.split(","));
  const isWanted = (line: string): boolean => {
    const [, area = "", name = ""] = MARK.exec(line) ?? [];
    if ((wanted.has(area) && !ORDINARY.test(name)) || wanted.has(`${area}.${name}`)) return true;
    return wanted.has(MESSAGE.exec(line)?.[1] ?? "") || (wanted.has("commits") && COMMIT.test(line));
  };
  return (lines) => foldMarks(lines.filter(isWanted));
}

export function queueLines(world: WorldFace): string[] {
  const frames = world.courier.frames().map(({ frame, atMs }) => `${world.courier.lineOf(frame)}  (${atMs === null ? "held" : `in ${atMs - world.nowMs}ms`})`);
  const timers = world.timers().map(({ owner, timer, atMs }) => `${owner}: timer ${timer} in ${atMs - world.nowMs}ms`);
  const rules = world.network.holdList().map((rule) => `holding ${rule}`);
  const cuts = world.network.cutList().map((cut) => `${cut} is cut`);
  const lines = [...frames, ...timers, ...rules, ...cuts];
  return lines.length === 0 ? ["nothing is in flight, no timer is armed"] : lines;
}

function oneFrame(world: WorldFace, words: Words): Frame {
  const match = words.frames();
  words.done();
  const found = world.courier.frames().find(({ frame }) => matches(match, frame));
  if (found === undefined) throw new EngineError("NOT_FOUND", `no message ${matchText(match)} is in flight or held`);
  return found.frame;
}

function holdFrame(world: WorldFace, frame: Frame): void {
  world.courier.pluck(frame);
  world.network.held.push(frame);
}

function delay(world: WorldFace, words: Words): string[] {
  const route = words.route();
  const match = route === null ? words.frames() : null;
  const ms = words.duration();
  if (ms === null) throw words.refuse("how long is missing: 50ms");
  words.done();
  if (route !== null) {
    world.network.setLink(route.from, route.to, { ...world.network.linkOf(route.from, route.to), delayMs: [ms, ms] });
    return [`${route.from}→${route.to} takes ${ms}ms`];
  }
  const found = world.courier.frames().find(({ frame }) => match !== null && matches(match, frame));
  if (found === undefined || match === null) throw new EngineError("NOT_FOUND", `no message ${match === null ? "" : matchText(match)} is in flight or held`);
  world.courier.pluck(found.frame);
  world.courier.launch(found.frame, (found.atMs ?? world.nowMs) - world.nowMs + ms);
  return [`${world.courier.lineOf(found.frame)}  (${ms}ms later)`];
}

function partition(world: WorldFace, words: Words): string[] {
  const route = words.route();
  if (route !== null) {
    words.done();
    world.network.cut(route.from, route.to);
    return [`${route.from}→${route.to} is cut`];
  }
  const groups = words.rest().map((group) => group.split(",").map((name) => knownNode(world, name)));
  words.done();
  if (groups.length < 2) throw words.refuse("want two groups or more, `a,b c`, or a route, `b→a`");
  for (const group of groups) for (const other of groups) if (group !== other) for (const from of group) for (const to of other) world.network.cut(from, to);
  return [`${groups.map((group) => group.join(",")).join(" | ")} cannot reach each other`];
}

function knownNode(world: WorldFace, name: string): NodeId {
  const found = world.nodeIds().find((id) => id === name);
  if (found === undefined) throw new EngineError("UNKNOWN_NODE", `node ${name}: there are ${world.nodeIds().join(", ")}`);
  return found;
}

function crash(world: WorldFace, words: Words): string[] {
  const node = knownNode(world, words.text("node"));
  const at = words.key("at");
  const process = words.key("process");
  const keep = words.oneOf("keep", KEEPS, "none");
  const when = words.oneOf("when", ["before", "after"], "after");
  const nth = words.count("nth", 1);
  words.done();
  if (at === null) {
    return traced(world, () => {
      if (process === null) world.crashNode(node, keep);
      else world.killByName(node, process, keep);
    });
  }
  const [kind = "", ...what] = at.split(":");
  const point: CrashPoint = { node, kind: boundaryKind(words, kind), when, nth, keep, scope: process === null ? "node" : "process" };
  world.crashAt({ ...point, ...(process === null ? {} : { process }), ...(what.length === 0 ? {} : { what: what.join(":") }) });
  return [`${process === null ? node : `${node} ${process}`} will crash ${when} ${at}${nth === 1 ? "" : `, the ${nth}th`}`];
}

const BOUNDARY_KINDS: readonly BoundaryKind[] = ["send", "answer", "arm", "disarm", "done", "halt", "mark", "commit", "append", "replace", "rename"];

function boundaryKind(words: Words, text: string): BoundaryKind {
  const kind = BOUNDARY_KINDS.find((each) => each === text);
  if (kind === undefined) throw words.refuse(`at=${text}: want one of ${BOUNDARY_KINDS.join(", ")}`);
  return kind;
}

function diff(world: WorldFace, words: Words): string[] {
  const [left, right] = [knownNode(world, words.text("node")), knownNode(world, words.text("node"))];
  const wanted = words.key("db");
  words.done();
  const dbs: readonly Db[] = DB_NAMES.filter((db) => wanted === null || db === wanted);
  if (dbs.length === 0) throw words.refuse(`db=${wanted}: want one of ${DB_NAMES.join(", ")}`);
  return dbs.flatMap((db) => {
    const found = diffDisks(world.diskOf(left), world.diskOf(right), db, DIFFERENCES_SHOWN_MAX + 1);
    if (found.length === 0) return [`${db}: equal`];
    const lines = found.slice(0, DIFFERENCES_SHOWN_MAX).map((each) => {
      const where = each.left === null ? `only on ${right}` : each.right === null ? `only on ${left}` : "differs";
      return `${db}: ${keyOwner(db, each.key).what} ${keyText(each.key)}: ${where}`;
    });
    return found.length > DIFFERENCES_SHOWN_MAX ? [...lines, `${db}: and more`] : lines;
  });
}
