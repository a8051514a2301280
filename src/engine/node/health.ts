/**
 * What a replica still waits for, in the form of `/health` (table.md section 1.2): a synchronisation, room, a leader, or a
 * person, where nobody leads and this node's disk may not vote. Only words for what the replica says of itself.
 */
import type { Missing } from "../gateway/admin.ts";
import type { SyncStatus } from "../sync/status.ts";
import type { Replica } from "./replica.ts";

/** How far a sync is, by its phase; while it copies, by the rows that came. */
const SYNC_PERCENT: Readonly<Record<SyncStatus["phase"], number>> = {
  probing: 0,
  requested: 5,
  clearing: 10,
  copying: 20,
  replaying: 80,
  verifying: 90,
  joined: 100,
};
const QUORUM_PERCENT = 75;

/** The step that comes next; none where the replica serves. */
export function missingOf(replica: Pick<Replica, "sync" | "facts" | "hasQuorum" | "silent" | "voteless">): Missing[] {
  const sync = replica.sync();
  if (sync.synchronizing) return [syncStep(sync)];
  if (replica.facts().isFull) return [step("store", "space", 0, "the disk is full (STORE_FULL): this node promises and stores nothing until there is room")];
  if (replica.hasQuorum()) return []; // without a vote of its own it serves all the same: /status and /metrics tell
  const voteless = replica.voteless();
  if (voteless !== null) return [step("store", "replace", 0, `this node has no vote: ${voteless}; \`cairn node replace\` takes in another one`)];
  const silent = replica.silent();
  const whom = silent.length === 0 ? "" : `: no answer from ${silent.join(", ")}`;
  return [step("cluster", "quorum", QUORUM_PERCENT, `no leader with a majority behind it is known yet${whom}`)];
}

function syncStep({ phase, provider, copy }: SyncStatus): Missing {
  const copied = copy === null ? "" : `, ${copy.chunks} chunks of its version ${copy.version} are here`;
  const from = provider === null ? "looks for a provider" : `copies the store of ${provider}`;
  const progress = copy?.progress ?? null;
  const share = phase === "copying" && progress !== null ? progress.percent / 100 : 0;
  const percent = Math.floor(SYNC_PERCENT[phase] + (SYNC_PERCENT.replaying - SYNC_PERCENT.copying) * share);
  return { ...step("store", "sync", percent, `${phase}: ${from}${copied}`), etaMs: phase === "copying" ? (progress?.etaMs ?? null) : null };
}

export const step = (task: Missing["task"], name: string, percent: number, detail: string): Missing => ({ task, step: name, percent, etaMs: null, detail });
