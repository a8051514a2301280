/**
 * What stories of the merge say: one line for what a step came to, the marks that were met on the way, where everything
 * stands. Reads disks and results, changes nothing. Hashes are shortened: a story is about what happened, not about bytes.
 */
import type { NodeId } from "../base/ids.ts";
import { choose, formula } from "../merge/choose.ts";
import type { StepResult } from "../merge/config.ts";
import { readCurrentSize, readLatch, readPosition } from "../merge/files.ts";
import { readEdge, rows } from "../merge/records.ts";
import { readCounters } from "../merge/storage-state.ts";
import type { StoryCluster } from "./merge-story.ts";
import type { MergeProcess } from "./merge-world.ts";
import { DAEMON, labelOf } from "./process.ts";
import { withMark } from "./trace.ts";
import { errorLine } from "./verbs.ts";

const MARKED = /^(.*?)\s+\[([\w.-]+)\]$/;
/** Deeds that no step reports: they ended it. */
const ENDINGS = /: halts, |: crash (before|after) |: crashed$|: killed$|^\S+: its folder is /;

/** From this age on a position's age is shown. */
const OLD_MS = 10_000;

/** The first eight digits of every hash. */
export const shortened = (text: string): string => text.replaceAll(/\b([0-9a-f]{8})[0-9a-f]{56}\b/g, "$1…");

/** What was said while `act` ran, then its own lines: with `trace on` everything, else marks and endings. */
export function told(story: StoryCluster, act: () => readonly string[]): string[] {
  const { trace } = story.world;
  const before = trace.position;
  const lines = act();
  const said = trace.since(before);
  return merged(story.tracing ? said : said.filter((line) => MARKED.test(line) || ENDINGS.test(line)), lines).map(shortened);
}

/** A line of the answer that says what a mark says takes the mark along; lines that come again are counted. */
function merged(said: readonly string[], lines: readonly string[]): string[] {
  const left = [...said];
  const own = lines.map((line) => {
    const at = left.findLastIndex((each) => repeats(each, line));
    const mark = at < 0 ? undefined : MARKED.exec(left.splice(at, 1)[0] ?? "")?.[2];
    return mark === undefined ? line : withMark(line, mark);
  });
  return [...counted(left), ...own];
}

/** Whether the line of an answer contains the whole text of a marked line, or says its error. */
function repeats(said: string, line: string): boolean {
  const text = MARKED.exec(said)?.[1];
  if (text === undefined) return false;
  const words = text.slice(text.indexOf(": ") + 2);
  const detail = words.replace(/^([A-Z_]+|gate shut|latched: [A-Z_]+): /, "");
  return detail.length > 16 && line.includes(detail);
}

function counted(lines: readonly string[]): string[] {
  const counts = new Map<string, number>();
  for (const line of lines) counts.set(line, (counts.get(line) ?? 0) + 1);
  return [...counts].map(([line, count]) => (count === 1 ? line : manyTimes(line, count)));
}

function manyTimes(line: string, count: number): string {
  const [, text = line, mark] = MARKED.exec(line) ?? [];
  return mark === undefined ? `${text} (${count} times)` : withMark(`${text} (${count} times)`, mark);
}

// ------------------------------------------------------------------ what a step came to

/** Lines about a process that has ended, or has not. */
export function stepLines(process: MergeProcess, said: readonly string[]): string[] {
  const label = labelOf(process);
  if (process.end === null) return [`${label}: still at work`];
  if (process.end.kind !== "done") return []; // told by its ending
  const result = process.end.body as StepResult;
  const marked = said.filter((line) => MARKED.test(line));
  const notes = result.notes.filter((note) => !marked.some((line) => line.includes(note)) && !(result.error?.detail.includes(note) ?? false));
  const failed = result.error === undefined ? [] : [`${label}: ${errorLine(result.error.code, result.error.detail)}`];
  return [...notes.map((note) => `${label}: ${note}`), ...failed, ...outcome(process.node, result)];
}

function outcome(primary: NodeId, { step, target, counts, changed, error }: StepResult): string[] {
  const count = (name: string): number => counts[name] ?? 0;
  switch (step) {
    case "fetch":
      return error !== undefined ? [] : [`queue.${target} +${count("fetched")}`];
    case "queue": {
      const held = count("held") === 0 ? "" : `, ${count("held")} held`;
      return error !== undefined ? [] : [`${primary}: ${count("sequenced")} sequenced, ${count("repeats")} repeats${held}, currentsize ${count("size")}`];
    }
    case "backup":
      return changed ? [] : [`position.${target} stays ${count("position")}`];
    default: {
      if (error !== undefined && !changed) return [];
      const cosigned = count("cosigned") === 0 ? "" : `, ${count("cosigned")} cosigned`;
      return [
        `${primary}: ${changed ? "signed" : "still signed"} ${count("signed")}${cosigned}, ${count("published")} of ${count("frontends")} frontends serve it`,
      ];
    }
  }
}

// ------------------------------------------------------------------ where everything stands

/** `a b p s1 f up, signed 90, epoch 1` */
export function statusLine(story: StoryCluster): string {
  const { world } = story;
  const isUp = (id: NodeId): boolean => world.running(id, DAEMON) !== null;
  const up = story.nodesByRole.filter((id) => isUp(id) && !world.node(id).paused);
  const paused = story.nodesByRole.filter((id) => isUp(id) && world.node(id).paused);
  const down = story.nodesByRole.filter((id) => !isUp(id));
  const groups = [
    [up, "up"],
    [paused, "paused"],
    [down, "down"],
  ] as const;
  const nodes = groups.flatMap(([ids, what]) => (ids.length === 0 ? [] : [`${ids.join(" ")} ${what}`]));
  return [...nodes, `signed ${story.signedSize ?? "nothing"}`, `epoch ${story.config(story.primary).epoch}`].join(", ");
}

/** Files of the primary, then each copy and storage node from its own disk. */
export function statusLines(story: StoryCluster): string[] {
  const { primary, secondaries, frontends, storages } = story.shape;
  const config = story.config(primary);
  const { log } = config;
  const snap = story.snapOf(primary);
  const current = readCurrentSize(snap, config);
  const latch = readLatch(snap, config);
  const stage = rows.stage(snap, log);
  const order = readEdge(snap, log).size;
  const lines = [
    `${primary}: order ${order}, currentsize ${current.kind === "ok" ? current.value.size : current.kind}, signed ${story.signedSize ?? "nothing"}`,
    ...(stage === null ? [] : [`${primary}: staged ${stage.size}`]),
    ...(latch.kind === "missing" ? [] : [`${primary}: latched, ${latch.kind === "ok" ? `${latch.value.code}: ${latch.value.detail}` : latch.why}`]),
  ];
  for (const id of secondaries) {
    const position = readPosition(snap, config, id);
    const { orderSize, storedSize, verifiedSize } = rows.copy(story.snapOf(id), log);
    const cosigned = rows.cosigned(story.snapOf(id), log);
    lines.push(
      `${id}: position ${position.kind === "ok" ? position.value.size : position.kind}, order ${orderSize}, stored ${storedSize}, verified ${verifiedSize}, cosigned ${cosigned?.size ?? "nothing"}`,
    );
  }
  for (const id of frontends) lines.push(`${id}: serves ${rows.published(story.snapOf(id), log)?.size ?? "nothing"}`);
  for (const id of storages) {
    const { nextSeq, settledSeq } = readCounters(story.snapOf(id), story.config(id));
    lines.push(`${id}: took ${nextSeq} entries, ${settledSeq} settled`);
  }
  return lines.map(shortened);
}

/** `merge explain`: the formula in force with its numbers, the reading that is not used, and who is waited for. */
export function explainLines(story: StoryCluster, k: number): string[] {
  const { primary } = story.shape;
  const choice = choose(story.snapOf(primary), story.config(primary), k);
  const { standings, currentSize } = choice;
  const positions = standings.map(({ secondary, size, timeMs }) => `position.${secondary} ${size}${ageText(story.timeMs(primary), timeMs)}`);
  const worthless = standings.flatMap(({ secondary, why }) => (why === null ? [] : [`position.${secondary} counts for nothing: ${why}`]));
  const sizes = standings.map((each) => each.size).sort((a, b) => b - a);
  const inForce = k > standings.length ? `backupquorum ${k}, secondaries ${standings.length}` : formula(choice);
  const other = choice.otherReading === null ? `desc([${sizes.join(", ")}])[${k}]: none` : `desc([${sizes.join(", ")}])[${k}] = ${choice.otherReading}`;
  const width = Math.max(inForce.length, other.length);
  const missing = standings.filter(({ secondary }) => choice.behind.includes(secondary)).map(({ secondary, size }) => `${secondary} ${currentSize - size}`);
  const toSign =
    choice.missingCount === 0 || k > standings.length ? "" : ` To sign ${currentSize}, ${choice.missingCount} must verify more: ${missing.join(", ")}.`;
  return [
    [`currentsize ${currentSize} ${primary}`, ...positions, `backupquorum = ${k}`].join("     "),
    ...(choice.currentWhy === null ? [] : [choice.currentWhy]),
    ...worthless,
    `  in force        ${inForce.padEnd(width)}     ${k > standings.length ? "impossible" : `${choice.counted.length} secondaries verified it`}`,
    `  other reading   ${other.padEnd(width)}     list without the primary: one copy more than the knob says; not used`,
    `signed ${story.signedSize ?? "nothing"}.${toSign}`,
  ].map(shortened);
}

/** A position that was written long ago says so. */
const ageText = (nowMs: number, timeMs: number | null): string =>
  timeMs === null || nowMs - timeMs < OLD_MS ? "" : ` (${Math.floor((nowMs - timeMs) / 1_000)} s old)`;
