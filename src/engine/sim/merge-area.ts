/**
 * The areas `merge` and `log` of stories: a simulated merge cluster with every verb of the merge, and the same with one
 * node that is everything, for stories about the log alone. Seeds of the merge run from here too.
 */
import { EngineError } from "../base/errors.ts";
import { type NodeId, nodeId } from "../base/ids.ts";
import { receiverTransitions } from "../merge/copy-state.ts";
import { distTransitions } from "../merge/dist-state.ts";
import { fetchTransitions } from "../merge/fetch.ts";
import { readPosition } from "../merge/files.ts";
import { queueTransitions } from "../merge/queue-state.ts";
import { readEdge, rows } from "../merge/records.ts";
import { senderTransitions } from "../merge/sender.ts";
import { storageTransitions } from "../merge/storage-state.ts";
import { type Area, type AreaSpec, type Condition, defineArea } from "./area.ts";
import { logVerbs } from "./log-verbs.ts";
import { mergeFaultVerbs } from "./merge-fault-verbs.ts";
import { statusLine } from "./merge-report.ts";
import { runMergeSeed } from "./merge-seed.ts";
import { StoryCluster } from "./merge-story.ts";
import { type MergeScene, mergeVerbs } from "./merge-verbs.ts";
import type { Words } from "./words.ts";

/** A bigger world is made by a story's own rounds, or is a campaign. */
const SIZE_MAX = 100_000;

type Roles = { readonly storage: string; readonly primary: string; readonly secondaries: string; readonly frontends: string };

const mergeRoles: Roles = { storage: "a,b", primary: "p", secondaries: "s1,s2", frontends: "f" };
const logRoles: Roles = { storage: "p", primary: "p", secondaries: "", frontends: "p" };

const makeWorld =
  (absent: Roles) =>
  (words: Words): MergeScene => {
    const storages = words.nodes("storage", absent.storage).sort();
    const [primary, ...others] = words.nodes("primary", absent.primary);
    const secondaries = words.nodes("secondaries", absent.secondaries).sort();
    const frontends = words.nodes("frontends", absent.frontends).sort();
    const backupquorum = words.count("quorum", Math.min(1, secondaries.length));
    const storagequorum = words.count("storagequorum", Math.min(2, storages.length));
    const size = words.count("size", 0);
    const seed = words.count("seed", 1);
    const cosign = words.oneOf("cosign", ["prefer", "require"], "prefer");
    const isBare = words.oneOf("init", ["yes", "no"], "yes") === "no";
    words.oneOf("register", ["local"], "local");
    if (primary === undefined || others.length > 0) throw words.refuse("primary: want one node");
    for (const id of [...storages, primary, ...secondaries, ...frontends]) nodeId(id); // words let `register` pass: here it names no node
    if (storages.length === 0) throw words.refuse("storage: want one node or more");
    if (size > SIZE_MAX) throw words.refuse(`size is ${size}, at most ${SIZE_MAX}`);
    if (backupquorum > secondaries.length) throw new EngineError("MERGE_QUORUM_IMPOSSIBLE", `backupquorum ${backupquorum}, secondaries ${secondaries.length}`);
    const story = new StoryCluster(seed, { storages, primary, secondaries, frontends, backupquorum, storagequorum, cosign });
    if (isBare && size > 0) throw words.refuse("size= wants a first head");
    if (isBare) story.beginBare();
    else story.begin(size);
    return { world: story.world, story };
  };

const conditions: readonly Condition<MergeScene>[] = [
  {
    name: "signed",
    summary: "signed(100): a head of that size or a larger one is final",
    holds: ({ story }, size) => (story.signedSize ?? -1) >= Number(size),
  },
  {
    name: "ordered",
    summary: "ordered(100): so many entries are sequenced",
    holds: ({ story }, size) => readEdge(story.snapOf(story.primary), story.config(story.primary).log).size >= Number(size),
  },
  {
    name: "position",
    summary: "position(s1,100): the position of a secondary has got there",
    holds({ story }, argument) {
      const [secondary = "", size = "0"] = argument.split(",");
      const found = readPosition(story.snapOf(story.primary), story.config(story.primary), secondary);
      return found.kind === "ok" && found.value.size >= Number(size);
    },
  },
  {
    name: "published",
    summary: "published(f,100): a frontend serves a head of that size or a larger one",
    holds({ story }, argument) {
      const [frontend = "", size = "0"] = argument.split(",");
      return (rows.published(story.snapOf(frontend as NodeId), story.config(story.primary).log)?.size ?? -1) >= Number(size);
    },
  },
  {
    name: "ended",
    summary: "ended(dist): no such step is running: fetch.a, queue, backup.s1, dist",
    holds: ({ story }, step) => story.world.running(story.primary, step) === null,
  },
];

const spec = (name: string, summary: string, roles: Roles, example: string): AreaSpec<MergeScene> => ({
  name,
  summary,
  example,
  forms: [
    "[storage=a,b] [primary=p] [secondaries=s1,s2] [frontends=f] [quorum=1] [storagequorum=2] [size=0] [seed=1] [cosign=prefer|require] [register=local] [init=yes|no]",
  ],
  makeWorld: makeWorld(roles),
  verbs: [...mergeVerbs, ...mergeFaultVerbs, ...logVerbs],
  conditions,
  status: ({ story }) => [statusLine(story)],
  transitions: {
    storage: storageTransitions,
    fetch: fetchTransitions,
    queue: queueTransitions,
    sender: senderTransitions,
    receiver: receiverTransitions,
    dist: distTransitions,
  },
});

export const mergeArea: Area = defineArea({
  ...spec(
    "merge",
    "the merge: storage nodes, a primary, secondaries that verify, frontends",
    mergeRoles,
    "world merge storage=a,b primary=p secondaries=s1,s2,s3 frontends=f quorum=2",
  ),
  runSeed: runMergeSeed,
});

/** No seeds of its own: the log is part of every merge. */
export const logArea: Area = defineArea(spec("log", "the log on one node that is everything", logRoles, "world log size=300"));
