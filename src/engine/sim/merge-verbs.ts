/**
 * Verbs of the merge that clients and the merge's own programs have too: adding entries, running steps, looking at where
 * they stand. Each answers with what came of it and the marks that were met; `trace on` adds every message.
 */
import { toHex, utf8 } from "../base/bytes.ts";
import { EngineError } from "../base/errors.ts";
import { type NodeId, REGISTER } from "../base/ids.ts";
import { leafHash } from "../log/merkle.ts";
import { certificatesOf } from "../log/pem.ts";
import { rows } from "../merge/records.ts";
import type { StepName } from "../node/assemble.ts";
import type { Scene, Verb } from "./area.ts";
import { receiptOf } from "./merge-adds.ts";
import { explainLines, statusLines, stepLines, told } from "./merge-report.ts";
import type { StoryCluster } from "./merge-story.ts";
import { type MergeProcess, type MergeReply, resultOf } from "./merge-world.ts";
import { type ClientCall, DAEMON } from "./process.ts";
import { runFor, runNow } from "./steer.ts";
import { errorLine } from "./verbs.ts";
import type { Words } from "./words.ts";

export type MergeScene = Scene & { readonly story: StoryCluster };

/** Rounds of one verb: a story that needs more says so in more lines. */
const ROUNDS_MAX = 100;
const ENTRIES_MAX = 100_000;

export const mergeVerbs: readonly Verb<MergeScene>[] = [
  {
    name: "add",
    forms: ["NODE TEXT…", "NODE count=N [from=N] [bytes=N]", "NODE pem=LINE|LINE|…"],
    example: "add a count=60",
    summary: "a client adds entries at a storage node: texts, generated ones (from= adds older ones again), or the certificates of a PEM text",
    run: ({ story }, words) => add(story, words),
  },
  {
    name: "round",
    forms: ["[adds=a:60,b:40] [repeat=N] [steps=fetch,queue,backup:s1,dist]"],
    example: "round adds=a:60,b:40 repeat=10 steps=fetch,queue,backup:s1",
    summary: "adds, each but the first beginning with so many entries of the one before, then steps in order (all of them where none are named)",
    run: ({ story }, words) => round(story, words),
  },
  {
    name: "merge fetch",
    forms: ["[storage=NODE] [start]"],
    example: "merge fetch storage=a",
    summary: "every fetcher side by side, then the queue handler; with storage=, only that fetcher",
    run({ story }, words) {
      const storage = words.key("storage");
      const only =
        storage === null ? story.roundSteps.slice(0, 2) : [[{ step: "fetch", storage: member(story.shape.storages, storage, "storage node") } as const]];
      return steps(story, words, only);
    },
  },
  {
    name: "merge queue",
    forms: ["[start]"],
    example: "merge queue",
    summary: "the queue handler: dedup, pull, order, commit",
    run: ({ story }, words) => steps(story, words, [[{ step: "queue" }]]),
  },
  {
    name: "merge backup",
    forms: ["[NODE] [chunks=N] [start]"],
    example: "merge backup s1",
    summary: "copy to every secondary side by side, or to one; with chunks=, the step is killed after so many chunks of entries are stored",
    run: ({ story }, words) => backup(story, words),
  },
  {
    name: "merge dist",
    forms: ["[start]"],
    example: "merge dist",
    summary: "sign what the quorum verified, and publish; `start` only starts a step: `run`, `step` and `deliver` take it further",
    run: ({ story }, words) => steps(story, words, [[{ step: "dist" }]]),
  },
  {
    name: "log init",
    forms: ["[start]"],
    example: "log init",
    summary: "make the first head, of size 0: once in the life of a log, a world has it unless it was made with init=no",
    run: ({ story }, words) => steps(story, words, [[{ step: "init" }]]),
  },
  {
    name: "merge run",
    forms: ["[rounds=N] [mode=sequence|parallel]"],
    example: "merge run rounds=3 mode=parallel",
    summary: "rounds of all steps: one after the other, or each started every 50 ms where it is not running; answers what changed",
    run: ({ story }, words) => runRounds(story, words),
  },
  {
    name: "merge status",
    forms: [""],
    example: "merge status",
    summary: "sizes on every disk: order, currentsize, positions, signed and served heads, entries that storage nodes hold",
    run: ({ story }) => statusLines(story),
  },
  {
    name: "merge explain",
    forms: ["[k=N]"],
    example: "merge explain k=2",
    summary: "which size is signed now and why; with k=, which one another backupquorum would sign",
    run({ story }, words) {
      const k = words.count("k", story.config(story.primary).backupquorum);
      return explainLines(story, k);
    },
  },
  {
    name: "trace",
    forms: ["on", "off"],
    example: "trace on",
    summary: "answer with every message, timer and flush, or with deeds and marks only",
    run({ story }, words) {
      story.tracing = words.flag("on");
      if (!story.tracing && !words.flag("off")) throw words.refuse("want on or off");
      return [story.tracing ? "every message is shown" : "deeds and marks are shown"];
    },
  },
];

// ------------------------------------------------------------------ entries

function add(story: StoryCluster, words: Words): string[] {
  const storage = member(story.shape.storages, words.text("node"), "storage node");
  const pem = words.key("pem");
  const isGenerated = words.has("count");
  const count = words.count("count", 0);
  const from = words.count("from", story.nextEntry);
  const bytes = words.count("bytes", 0);
  const texts = words.rest().map(utf8);
  if (count > ENTRIES_MAX) throw words.refuse(`count is ${count}, at most ${ENTRIES_MAX}`);
  const certificates = pem === null ? [] : [...certificatesOf(pem.replaceAll("|", "\n"))];
  const entries = [...texts, ...certificates, ...(isGenerated ? story.generate(count, from, bytes) : [])];
  if (entries.length === 0) throw words.refuse("no entry is given");
  return told(story, () => addLines(story, storage, entries));
}

function addLines(story: StoryCluster, storage: NodeId, entries: readonly Uint8Array[]): string[] {
  const call = story.add(storage, entries);
  const receipt = receiptOf(call);
  if (receipt === null) return [unanswered(storage, call)];
  if (entries.length > 4) return [`${storage}: ${entries.length} receipts`];
  const lines = new TextDecoder().decode(receipt.lines).trimEnd().split("\n");
  return entries.map(
    (entry, i) =>
      `${storage}: receipt ${Bun.hash
        .crc32(lines[i] ?? "")
        .toString(16)
        .padStart(8, "0")} for leaf ${toHex(leafHash(entry))}`,
  );
}

function unanswered(storage: NodeId, { state, body }: ClientCall<MergeReply>): string {
  if (state === "waiting") return `${storage}: no answer yet, the client gave up`;
  if (state === "lost") return `${storage}: the client lost its connection`;
  if (body !== null && "kind" in body && body.kind === "refused") return errorLine(body.code, body.text);
  return `${storage}: an answer that is no receipt`;
}

/** `a:60,b:40`: the second batch begins with the last `repeat` entries of the first. */
function round(story: StoryCluster, words: Words): string[] {
  const adds = (words.key("adds") ?? "").split(",").filter((each) => each !== "");
  const repeat = words.count("repeat", 0);
  const names = words.key("steps");
  const batches = adds.map((text) => {
    const [, node = "", count = ""] = /^([a-z0-9-]+):(\d{1,6})$/.exec(text) ?? [];
    if (node === "") throw words.refuse(`adds=${text}: want NODE:COUNT`);
    return { storage: member(story.shape.storages, node, "storage node"), count: Number(count) };
  });
  const groups = names === null ? story.roundSteps : names.split(",").map((name) => stepsNamed(story, name, words));
  words.done();
  const added = batches.flatMap(({ storage, count }, i) =>
    told(story, () => addLines(story, storage, story.generate(count, Math.max(0, story.nextEntry - (i === 0 ? 0 : repeat))))),
  );
  return [...added, ...groups.flatMap((group) => runGroup(story, group))];
}

// ------------------------------------------------------------------ steps

/** `fetch`, `fetch:a`, `queue`, `backup`, `backup:s1`, `dist`. */
function stepsNamed(story: StoryCluster, text: string, words: Words): readonly StepName[] {
  const [name = "", target] = text.split(":");
  const { storages, secondaries } = story.shape;
  if (name === "fetch") return (target === undefined ? storages : [member(storages, target, "storage node")]).map((storage) => ({ step: "fetch", storage }));
  if (name === "backup")
    return (target === undefined ? secondaries : [member(secondaries, target, "secondary")]).map((secondary) => ({ step: "backup", secondary }));
  if ((name === "queue" || name === "dist") && target === undefined) return [{ step: name }];
  throw words.refuse(`${text} is none of fetch, fetch:NODE, queue, backup, backup:NODE, dist`);
}

function steps(story: StoryCluster, words: Words, groups: readonly (readonly StepName[])[]): string[] {
  const isStart = words.flag("start");
  words.done();
  if (!isStart) return groups.flatMap((group) => runGroup(story, group));
  return told(story, () => {
    const started = (groups[0] ?? []).map((step) => story.startStep(step));
    runNow(story.world);
    return started.map((process) => `${process.node} ${process.name}: started`);
  });
}

function runGroup(story: StoryCluster, group: readonly StepName[]): string[] {
  return told(story, () => {
    const before = story.world.trace.position;
    const ended = story.runSteps(group);
    const said = story.world.trace.since(before);
    return ended.flatMap((process) => stepLines(process, said));
  });
}

function backup(story: StoryCluster, words: Words): string[] {
  const { secondaries } = story.shape;
  const named = words.has("chunks") ? words.text("node") : words.next(/^(?!start$).+$/);
  const targets = named === null ? secondaries : [member(secondaries, named, "secondary")];
  if (!words.has("chunks")) return steps(story, words, [targets.map((secondary) => ({ step: "backup", secondary }))]);
  const chunks = words.count("chunks", 1);
  words.done();
  return told(story, () => backupSome(story, targets[0] as NodeId, chunks));
}

/** A copy that is cut short: the step is killed when so many chunks of entries were acknowledged. */
function backupSome(story: StoryCluster, secondary: NodeId, chunks: number): string[] {
  const { world } = story;
  const process = story.startStep({ step: "backup", secondary });
  let stored = 0;
  const outer = world.onBoundary;
  world.onBoundary = ({ node, kind, what, when }) => {
    if (node === secondary && kind === "answer" && what === "copy.stored" && when === "after") stored++;
  };
  while (process.end === null && stored < chunks && (world.nextMs() ?? Number.POSITIVE_INFINITY) < Number.POSITIVE_INFINITY) world.step();
  world.onBoundary = outer;
  if (process.end !== null) return stepLines(process, []);
  world.kill(process);
  const { orderSize, storedSize, verifiedSize } = rows.copy(story.snapOf(secondary), story.config(secondary).log);
  return [`${secondary}: ${storedSize} of ${orderSize} stored, ${verifiedSize} verified`];
}

function runRounds(story: StoryCluster, words: Words): string[] {
  const rounds = words.count("rounds", 1);
  const mode = words.oneOf("mode", ["sequence", "parallel"], "sequence");
  words.done();
  if (rounds < 1 || rounds > ROUNDS_MAX) throw words.refuse(`rounds is ${rounds}, want 1 to ${ROUNDS_MAX}`);
  const lines: string[] = [];
  for (let number = 1; number <= rounds; number++) {
    const changed = mode === "sequence" ? story.roundSteps.flatMap((group) => told(story, () => changes(story.runSteps(group)))) : sideBySide(story);
    lines.push(...changed.map((line) => `${number}: ${line}`));
  }
  return lines.length === 0 ? ["nothing changed"] : lines;
}

/** Each step that is not running starts; time passes; those that ended meanwhile, and those still at work, are told. */
function sideBySide(story: StoryCluster): string[] {
  const { world, primary } = story;
  return told(story, () => {
    for (const step of story.roundSteps.flat()) if (world.running(primary, processName(step)) === null) story.startStep(step);
    const running = [...world.live()].filter((process) => process.node === primary && process.name !== DAEMON && process.name !== REGISTER);
    runFor(world, story.config(primary).intervalMs);
    return changes(running);
  });
}

const processName = (step: StepName): string =>
  step.step === "fetch" ? `fetch.${step.storage}` : step.step === "backup" ? `backup.${step.secondary}` : step.step;

const changes = (processes: readonly MergeProcess[]): string[] =>
  processes
    .filter((process) => process.end === null || resultOf(process)?.changed !== false || resultOf(process)?.error !== undefined)
    .flatMap((process) => stepLines(process, []));

/** The one of these nodes with that name. */
export function member(nodes: readonly NodeId[], name: string, what: string): NodeId {
  const found = nodes.find((id) => id === name);
  if (found === undefined) throw new EngineError("UNKNOWN_NODE", `${name} is no ${what}: there are ${nodes.join(", ") || "none"}`);
  return found;
}
