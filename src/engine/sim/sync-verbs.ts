/**
 * Verbs of store synchronisation for stories and the REPL: where each node stands, and an operator's wish to have a store
 * replaced. Everything else happens by itself.
 */
import { utf8 } from "../base/bytes.ts";
import type { Op, Snapshot } from "../base/effects.ts";
import { EngineError } from "../base/errors.ts";
import type { NodeId } from "../base/ids.ts";
import { acceptsKeys, replicatedKeys } from "../store/keys.ts";
import { applyBatch } from "../store/memory.ts";
import { KEY_BYTES_MAX } from "../store/types.ts";
import { historyIn } from "../store/versions.ts";
import type { ProgressStatus } from "../sync/progress.ts";
import { syncRows } from "../sync/records.ts";
import { MIB } from "../sync/state.ts";
import { explain, type SyncStatus, statusOf } from "../sync/status.ts";
import type { Verb } from "./area.ts";
import type { PaxosStory } from "./paxos-story.ts";
import type { PaxosScene } from "./paxos-verbs.ts";
import { keyName } from "./paxos-world.ts";
import { runNow } from "./steer.ts";

export const syncVerbs: readonly Verb<PaxosScene>[] = [
  {
    name: "sync status",
    forms: [""],
    example: "sync status",
    summary: "transfers and holds of every node, and what keeps trimming back",
    run: ({ story }) => story.nodeIds.flatMap((id) => statusLines(story, id)),
  },
  {
    name: "sync explain",
    forms: ["NODE"],
    example: "sync explain c",
    summary: "why the node syncs or does not, what it waits for, and why it asks whom it asks",
    run({ story }, words) {
      const id = words.node("node");
      const state = story.syncOf(id);
      if (state === null) throw new EngineError("UNAVAILABLE", `${id} is down, or this world was made without profile=`);
      return explain(state, historyIn(story.snapOf(id)), story.upMs(id));
    },
  },
  {
    name: "sync disk",
    forms: ["NODE"],
    example: "sync disk c",
    summary: "what a node's disk says of its sync, also of one that is down: flag, floor, cursor, and what Paxos accepted",
    run({ story }, words) {
      const id = words.node("node");
      if (!story.nodeIds.includes(id)) throw new EngineError("UNKNOWN_NODE", `node ${id}: there are ${story.nodeIds.join(", ")}`);
      return [diskLine(id, story.snapOf(id))];
    },
  },
  {
    name: "sync force",
    forms: ["NODE"],
    example: "sync force c",
    summary: "an operator wants the node's store replaced: it is cleared only when enough others have all it had",
    run({ story }, words) {
      const id = words.node("node");
      if (story.syncOf(id) === null) throw new EngineError("UNAVAILABLE", `${id} is down, or this world was made without profile=`);
      return story.told(() => {
        story.world.request(id, { kind: "sync.force" });
        runNow(story.world);
        return [`${id}: told to have its store replaced`];
      });
    },
  },
  {
    name: "sync spoil",
    forms: ["NODE KEY"],
    example: "sync spoil c k3",
    summary: "another value for a key of the service kv, behind the node's back and with a right checksum: only comparing stores tells",
    run({ story }, words) {
      const id = words.node("node");
      return [spoil(story, id, words.text("key"))];
    },
  },
];

/** A wrong row that nobody's checksum tells: only a comparison with the provider's can. */
function spoil(story: PaxosStory, id: NodeId, name: string): string {
  if (story.watched !== null) story.watched.damaged = true; // a failed verification is no surprise from here on
  const row: Op = { op: "put", key: replicatedKeys.kv(utf8(name)), value: utf8("of nobody") };
  story.world.changeDisk(id, (disk) => ({ ...disk, dbs: { ...disk.dbs, replicated: applyBatch(disk.dbs.replicated, [row], 1) } }));
  return `${id}: ${name} is another value, with a right checksum`;
}

function statusLines(story: PaxosStory, id: NodeId): string[] {
  const state = story.syncOf(id);
  if (state === null) return [`${id}: ${story.isUp(id) ? "without synchronisation" : "down"}`];
  const { phase, provider, synchronizing, floor, copy, provides, holds, rate, heldFrom } = statusOf(state, story.upMs(id));
  const copied =
    copy === null
      ? ""
      : `, ${copy.complete ? "every key" : `${copy.chunks} ${copy.mode === "delta" ? "steps" : "chunks"}`} of ${copy.version} durable${progressText(copy.progress)}`;
  return [
    `${id}: ${phase}${provider === null ? "" : ` from ${provider}`}${synchronizing ? `, flag on, floor ${floor}` : ""}${copied}`,
    ...provides.map((each) => `  to ${each.to}: ${transferText(each)}`),
    ...(rate === null ? [] : [`  sends at most ${(rate.bytesPerS / MIB).toFixed(1)} MiB/s${rate.isFloor ? ", the floor" : ""}`]),
    ...holds.map((hold) => `  holds for ${hold.for}: ${hold.phase}, versions from ${hold.lowest} on`),
    ...(heldFrom === 0 ? ["  leads newly: nothing is trimmed"] : []),
  ];
}

const progressText = (progress: ProgressStatus | null): string =>
  progress === null ? "" : `, ${progress.keysDone} of about ${progress.keys} keys came, ${progress.percent} %, limited by ${progress.limitedBy}`;

function transferText({ phase, version, chunksAcknowledged, chunksSent, bytesSent, limitedBy }: SyncStatus["provides"][number]): string {
  if (phase === "holding") return "holding";
  const limit = limitedBy === null ? "" : `, limited by ${limitedBy}`;
  return `${phase}, snapshot ${version}, ${chunksAcknowledged} of ${chunksSent} chunks acknowledged, ${bytesSent} bytes${limit}`;
}

function diskLine(id: NodeId, snap: Snapshot): string {
  const [flag, cursor] = [syncRows.flag(snap), syncRows.cursor(snap)];
  const flagged = flag === null ? "no flag" : `flag on (${flag.provider}${flag.isCleared ? ", cleared" : ""})`;
  const next = cursor?.cursor == null ? "every key" : `next key ${keyName(cursor.cursor)}`;
  const where =
    cursor === null ? "no cursor" : `chunk ${cursor.number}, ${next}, snapshots ${cursor.oldest} to ${cursor.version}, replayed to ${cursor.position}`;
  const keys = [...snap.range("replicated", FIRST_KEY, LAST_KEY)].length;
  const accepted = [...snap.range("accepts", acceptsKeys.accepted(0), acceptsKeys.accepted(Number.MAX_SAFE_INTEGER))].length;
  return `${id}: ${flagged}, floor ${syncRows.floor(snap)}, ${where}; ${keys} keys, ${accepted} accepted versions`;
}

const FIRST_KEY = new Uint8Array(0);
const LAST_KEY = new Uint8Array(KEY_BYTES_MAX).fill(0xff);
