/**
 * The area `sync` of stories and seed runs: a simulated cluster of symmetric replicas that decide by Paxos.
 */
import type { NodeId } from "../base/ids.ts";
import { PAXOS_TIMING, paxosTransitions } from "../paxos/state.ts";
import { holdTransitions, providerTransitions, requesterTransitions } from "../sync/phases.ts";
import { DEFAULT_LIMITS, SEED_LIMITS, SYNC_TIMING } from "../sync/state.ts";
import { type Area, type Condition, defineArea, type SeedOptions, type SeedReport } from "./area.ts";
import { runPaxosSeed } from "./paxos-seed.ts";
import { type Laggards, PaxosStory } from "./paxos-story.ts";
import { type PaxosScene, paxosVerbs } from "./paxos-verbs.ts";
import { NODES_MAX, type SyncProfile } from "./paxos-world.ts";
import { runSyncSeed } from "./sync-seed.ts";
import { syncVerbs } from "./sync-verbs.ts";
import type { Words } from "./words.ts";

/** A longer history is made by a story's own writes. */
const LAST_MAX = 10_000;

function makeWorld(words: Words): PaxosScene {
  const nodeCount = words.count("nodes", 3);
  const seed = words.count("seed", 1);
  const last = words.count("last", 1);
  const keepCount = words.count("keep", 500);
  const trimWaitMs = words.count("trim-wait", 60_000);
  const collectMs = words.count("collect-wait", PAXOS_TIMING.collectMs);
  if (nodeCount < 1 || nodeCount > NODES_MAX) throw words.refuse(`nodes is ${nodeCount}, want 1 to ${NODES_MAX}`);
  if (last < 1 || last > LAST_MAX) throw words.refuse(`last is ${last}, want 1 to ${LAST_MAX}`);
  if (keepCount < 1) throw words.refuse("keep is 0, want 1 or more");
  const spareCount = words.count("spares", 0);
  if (nodeCount + spareCount > NODES_MAX) throw words.refuse(`${nodeCount + spareCount} nodes, at most ${NODES_MAX}`);
  const profile = words.oneOf("profile", ["none", "seed", "default"], "none");
  const chunkKeys = words.count("chunk-keys", 2_000);
  const mode = words.oneOf("mode", ["full", "delta"], "full");
  const sync = profileNamed(profile, chunkKeys, mode);
  const story = new PaxosStory({ seed, nodeCount, spareCount, keepCount, timing: { trimWaitMs, collectMs }, ...(sync === null ? {} : { sync }) });
  story.begin(last, laggardsOf(words));
  return { world: story.world, story };
}

/** `laggard=c(12)`: nodes that ended at that version, before what followed it was trimmed away. */
function laggardsOf(words: Words): Laggards | null {
  const text = words.key("laggard");
  if (text === null) return null;
  const [, names = "", at = "0"] = /^([a-z](?:,[a-z])*)\((\d{1,6})\)$/.exec(text) ?? [];
  if (names === "") throw words.refuse(`laggard=${text}: want nodes and a version, as in c(12)`);
  return { ids: names.split(",") as NodeId[], at: Number(at) };
}

/** `seed` is the letter of seed 002: everything held, one chunk at a time, no resume. */
function profileNamed(name: "none" | "seed" | "default", chunkKeys: number, mode: SyncProfile["mode"]): SyncProfile | null {
  if (name === "none") return null;
  const isSeed = name === "seed";
  return { limits: { ...(isSeed ? SEED_LIMITS : DEFAULT_LIMITS), chunkKeys }, timing: SYNC_TIMING, isResuming: !isSeed, holdsAll: isSeed, mode };
}

const conditions: readonly Condition<PaxosScene>[] = [
  {
    name: "LEADING",
    summary: "LEADING(a): the node leads, is settled, and holds leases of a majority",
    holds: ({ story }, node) => story.isSettledAt(node as NodeId),
  },
  {
    name: "PHASE",
    summary: "PHASE(a,following): the node is in this phase",
    holds({ story }, argument) {
      const [node = "", phase = ""] = argument.split(",");
      return story.stateOf(node as NodeId)?.phase === phase;
    },
  },
  {
    name: "APPLIED",
    summary: "APPLIED(b,12): the node's store has that version, or a later one",
    holds({ story }, argument) {
      const [node = "", version = "0"] = argument.split(",");
      return (story.stateOf(node as NodeId)?.applied ?? 0) >= Number(version);
    },
  },
  {
    name: "SYNC",
    summary: "SYNC(c,copying): the node's requester is in this phase: probing, requested, clearing, copying, replaying, verifying, joined",
    holds({ story }, argument) {
      const [node = "", phase = ""] = argument.split(",");
      return story.syncOf(node as NodeId)?.requester.phase === phase;
    },
  },
  {
    name: "PROVIDES",
    summary: "PROVIDES(b,draining): a transfer of the node is in this phase: holding, streaming, draining",
    holds({ story }, argument) {
      const [node = "", phase = ""] = argument.split(",");
      return [...(story.syncOf(node as NodeId)?.transfers.values() ?? [])].some((transfer) => transfer.phase === phase);
    },
  },
  {
    name: "CHUNK",
    summary: "CHUNK(c,4): the node has that chunk, or a later one, on its disk",
    holds({ story }, argument) {
      const [node = "", number = "1"] = argument.split(",");
      return (story.syncOf(node as NodeId)?.requester.durable?.number ?? 0) >= Number(number);
    },
  },
  {
    name: "ANSWERED",
    summary: "ANSWERED: no client waits",
    holds: ({ story }) => story.clients.openCount === 0,
  },
];

/** One seed is two runs: of Paxos alone, and of members that must be copied to. The first that breaks is told. */
function runSeed(seed: number, how: SeedOptions = {}): SeedReport {
  const decided = runPaxosSeed(seed, how);
  if (decided.violation !== null) return decided;
  const copied = runSyncSeed(seed, how);
  const marks = new Map(decided.marks);
  for (const [name, count] of copied.marks) marks.set(name, (marks.get(name) ?? 0) + count);
  return { ...copied, events: decided.events + copied.events, traceHash: decided.traceHash + copied.traceHash, marks };
}

export const syncArea: Area = defineArea<PaxosScene>({
  name: "sync",
  summary: "replicas that decide by Paxos: elections, leases, versions, trim",
  example: "world sync nodes=3 seed=7",
  forms: [
    "[nodes=3] [spares=0] [seed=1] [last=1] [keep=500] [laggard=c,d(1)] [trim-wait=60000] [collect-wait=1000] [profile=none|seed|default] [chunk-keys=2000] [mode=full|delta]",
  ],
  makeWorld,
  verbs: [...paxosVerbs, ...syncVerbs],
  conditions,
  status: ({ story }) => [story.statusLine()],
  transitions: { paxos: paxosTransitions, requester: requesterTransitions, provider: providerTransitions, hold: holdTransitions },
  mutants: ["paxos", "sync"],
  runSeed,
});
