/**
 * `cairn merge status` and `cairn merge explain` (merge.md sections 1 and 9): where every node of a merge stands, what the
 * quorum formula makes of it in both readings of the seed, and for whom the next head waits. They only read `/status`.
 */
import { setTimeout } from "node:timers/promises";
import { EngineError } from "../engine/base/errors.ts";
import { burn, burnText } from "./burn.ts";
import { resolveCluster } from "./cluster.ts";
import { LiveBlock } from "./live-block.ts";
import { logOption, mustBeMain } from "./log-client.ts";
import { askMerge, type MergeView, type PrimaryView } from "./merge-view.ts";
import { colours, drawMerge, plain } from "./picture.ts";
import { nextSize, type Reading, readingOf, type Sizes, type Wait, waitFor, waitText } from "./quorum.ts";
import { command } from "./spec.ts";
import { formatTable } from "./table.ts";

const WATCH_EVERY_MS = 200;
/** A position that is behind and did not move for so long: its secondary is slow or gone. */
const OLD_MS = 5_000;
/** Where no terminal tells its width: the same bytes everywhere. */
const PIPE_COLUMNS = 100;

export const mergeStatus = command({
  name: "merge status",
  summary: "Show how far each node is with the log, the quorum line, and for whom the next head waits",
  args: [],
  options: [logOption, { name: "watch", form: "flag", means: "draw it again when it changes, until a signal; in a pipe a line per change" }],
  errors: ["UNAVAILABLE", "NOT_FOUND"],
  examples: ["cairn merge status", "cairn merge status --watch", "cairn merge status --json"],
  async run(ctx) {
    const cluster = await resolveCluster(ctx.cluster);
    mustBeMain(ctx.options.log, cluster.name);
    const ask = (): Promise<MergeView> => askMerge(cluster, ctx.timeoutMs);
    if (!ctx.options.watch) {
      const view = await ask();
      return ctx.answer(statusRow(view), [headLine(view), ...drawMerge(view, { columns: PIPE_COLUMNS })].join("\n"));
    }
    const { signal } = ctx;
    const block = new LiveBlock(process.stdout);
    const isDrawn = block.isTerminal && !ctx.json;
    const paint = process.env["NO_COLOR"] ? plain : colours;
    try {
      for (let last = ""; !signal.aborted; await pause(WATCH_EVERY_MS, signal)) {
        const view = await ask();
        const row = JSON.stringify(statusRow(view));
        if (isDrawn) block.show([headLine(view), ...drawMerge(view, { columns: block.columns, paint })]);
        else if (row !== last) await ctx.answer(statusRow(view), changeLine(view));
        last = row;
      }
    } finally {
      block.end();
    }
  },
});

const headLine = ({ origin, epoch, primary, merge }: MergeView): string =>
  `log ${origin ?? "unknown"}   primary ${primary ?? "unknown"}   epoch ${epoch ?? "unknown"}${merge === null ? "" : `   ${gateText(merge)}`}`;

function gateText({ gate, latch }: PrimaryView): string {
  if (latch !== null) return `latched by ${latch.code}`;
  if (gate === null || !gate.open) return "gate not opened yet";
  return gate.floor === 0 ? "gate open" : `gate open from ${gate.floor}`;
}

/** One line for a pipe. */
function changeLine({ merge, nodes }: MergeView): string {
  const served = nodes.map(({ id, error, publishedSize }) => `${id} ${error === null ? (publishedSize ?? "none") : error.code}`).join(", ");
  if (merge === null) return `primary silent; served ${served}`;
  const positions = merge.standings.map(({ secondary, size }) => `${secondary} ${size}`).join(", ");
  const reading = readingOf(sizesOf(merge), merge.k);
  return `current ${merge.currentSize}; positions ${positions || "none"}; ${reading.formula} = ${reading.size ?? "impossible"}; signed ${merge.signedSize ?? "none"}; served ${served}`;
}

function statusRow(view: MergeView): object {
  const { merge } = view;
  const shared = { log: view.origin, primary: view.primary, epoch: view.epoch, nodes: view.nodes };
  if (merge === null) return { ...shared, merge: null };
  const sizes = sizesOf(merge);
  const { size, formula, counted, otherReading } = readingOf(sizes, merge.k);
  const { currentSize, signedSize, k, standings, latch, gate, notes } = merge;
  return {
    ...shared,
    merge: { currentSize, signedSize, k, size, formula, counted, otherReading, standings, waits: nextWait(sizes, k, size), latch, gate, notes },
  };
}

export const mergeExplain = command({
  name: "merge explain",
  summary: "Say what backupquorum makes of the positions: both readings, each k, who is waited for",
  args: [],
  options: [
    logOption,
    { name: "k", form: "count", value: "N", means: "as if backupquorum were N" },
    { name: "burn", form: "string", value: "NODE,…", means: "what would be lost with the disks of these nodes; `none`: what it would take" },
  ],
  errors: ["UNAVAILABLE", "NOT_FOUND", "MERGE_QUORUM_IMPOSSIBLE", "UNKNOWN_NODE", "BAD_OPTION"],
  examples: ["cairn merge explain", "cairn merge explain --k 2 --json", "cairn merge explain --burn a,b"],
  async run(ctx) {
    const cluster = await resolveCluster(ctx.cluster);
    mustBeMain(ctx.options.log, cluster.name);
    const view = await askMerge(cluster, ctx.timeoutMs);
    const { merge } = view;
    if (merge === null) throw new EngineError("UNAVAILABLE", `primary ${view.primary ?? "unknown"} does not answer: only it knows currentsize and positions`);
    if (ctx.options.burn !== undefined) {
      if (ctx.options.k !== undefined) throw new EngineError("BAD_OPTION", "--burn is about disks, --k about the formula: ask for one of them");
      const burned = burn(view, merge, burnedNodes(ctx.options.burn, view));
      return ctx.answer(burned, burnText(burned, view.primary ?? "primary"));
    }
    const k = ctx.options.k ?? merge.k;
    if (k > merge.standings.length) throw new EngineError("MERGE_QUORUM_IMPOSSIBLE", `k ${k}: there are ${merge.standings.length} secondaries`);
    const explained = explain(view.primary ?? "primary", merge, k);
    await ctx.answer(explained, explainText(explained, Date.now()));
  },
});

function burnedNodes(words: string, { nodes }: MergeView): string[] {
  const ids = words === "none" ? [] : [...new Set(words.split(","))];
  for (const id of ids)
    if (!nodes.some((node) => node.id === id)) throw new EngineError("UNKNOWN_NODE", `--burn ${id}: there are ${nodes.map((node) => node.id).join(", ")}`);
  return ids;
}

type Explained = {
  readonly primary: string;
  readonly currentSize: number;
  readonly signedSize: number | null;
  /** What is explained, and what is in force. */
  readonly k: number;
  readonly backupquorum: number;
  readonly standings: PrimaryView["standings"];
  readonly reading: Reading;
  /** Before one more size can be signed, and before everything can. */
  readonly next: Wait | null;
  readonly all: Wait | null;
  readonly each: readonly { readonly k: number; readonly size: number; readonly otherReading: number | null; readonly waits: Wait | null }[];
  readonly notes: readonly string[];
};

/** Everything that `merge explain` prints; pure. */
export function explain(primary: string, merge: PrimaryView, k: number): Explained {
  const sizes = sizesOf(merge);
  const reading = readingOf(sizes, k);
  const { currentSize, signedSize, standings, notes } = merge;
  const each = Array.from({ length: standings.length + 1 }, (_, at) => {
    const { size, otherReading } = readingOf(sizes, at);
    return { k: at, size: size ?? 0, otherReading, waits: waitFor(sizes, at, currentSize) };
  });
  const next = nextWait(sizes, k, reading.size);
  return { primary, currentSize, signedSize, k, backupquorum: merge.k, standings, reading, next, all: waitFor(sizes, k, currentSize), each, notes };
}

export function explainText(explained: Explained, nowMs: number): string {
  const { primary, currentSize, signedSize, k, backupquorum, standings, reading, next, all, notes } = explained;
  const ageOf = (timeMs: number | null): string => (timeMs === null || nowMs - timeMs < OLD_MS ? "" : ` (${formatAge(nowMs - timeMs)} old)`);
  const positions = standings.map(({ secondary, size, timeMs }) => `position.${secondary} ${size}${size < currentSize ? ageOf(timeMs) : ""}`);
  const inForce = k === backupquorum ? "in force" : "if it were so";
  const readings = formatTable(
    [
      [inForce, reading.formula, `= ${reading.size}`, ` ${verifiedText(reading)}`],
      ["other reading", reading.otherFormula, `= ${reading.otherReading ?? "none"}`, " list without the primary: one copy more than the knob says; not used"],
    ],
    { indent: "  " },
  );
  const waits = [next === null ? "Nothing waits." : waitText(next), ...(all === null || all.size === next?.size ? [] : [waitText(all)])];
  return [
    [`currentsize ${currentSize} ${primary}`, ...positions, `backupquorum = ${k}${k === backupquorum ? "" : ` (in force: ${backupquorum})`}`].join("     "),
    readings,
    `signed ${signedSize ?? "nothing yet"}. ${waits.join(" ")}`,
    "",
    eachTable(explained),
    ...notes.map((note) => `note: ${note}`),
  ].join("\n");
}

function eachTable({ each, backupquorum }: Explained): string {
  const rows = each.map(({ k, size, otherReading, waits }) => [
    `${k}${k === backupquorum ? " *" : ""}`,
    size,
    otherReading ?? "-",
    waits === null ? "nobody" : `${waits.missingCount} of ${waits.behind.map(({ secondary, toGo }) => `${secondary} (${toGo} to go)`).join(", ")}`,
  ]);
  return formatTable([["K", "SIGNS NOW", "OTHER READING", "WAITS FOR, TO SIGN ALL"], ...rows]);
}

function verifiedText({ size, counted }: Reading): string {
  if (size === 0) return "nothing to sign";
  if (counted.length === 0) return "no copy needed";
  return counted.length === 1 ? `1 secondary verified it: ${counted[0]}` : `${counted.length} secondaries verified it: ${counted.join(", ")}`;
}

function nextWait(sizes: Sizes, k: number, signable: number | null): Wait | null {
  const next = nextSize(sizes, signable ?? 0);
  return next === null ? null : waitFor(sizes, k, next);
}

const sizesOf = ({ currentSize, standings }: PrimaryView): Sizes => ({ currentSize, positions: standings });

function formatAge(ageMs: number): string {
  const seconds = Math.round(ageMs / 1_000);
  if (seconds < 120) return `${seconds} s`;
  return seconds < 7_200 ? `${Math.floor(seconds / 60)} min` : `${Math.floor(seconds / 3_600)} h`;
}

/** Ends early, and quietly, on the signal. */
const pause = (forMs: number, signal: AbortSignal): Promise<void> => setTimeout(forMs, undefined, { signal }).catch(() => {});
