/**
 * The cluster map (sync.md 3.7): who votes, under which number and rank, and which disk each of them has. It is a row of
 * the service `cluster`, decided like everything else; before the first version it is what the node's config says.
 */
import { equalBytes } from "../base/bytes.ts";
import type { Batch, Op } from "../base/effects.ts";
import type { NodeId } from "../base/ids.ts";
import { mutant } from "../base/mutant.ts";
import { replicatedKeys } from "../store/keys.ts";
import { fixed, list, struct, text, u32, u53 } from "../wire/codec.ts";
import { record } from "../wire/record.ts";

/** `number` is never given to another member; the lowest `rank` that can leads; `birth` names the disk it votes with. */
export type Member = { readonly id: NodeId; readonly number: number; readonly rank: number; readonly birth: Uint8Array };

/** `version` is the one that decided it; 0 is the config's. `lastNumber` is the highest number ever given to a member. */
export type ClusterMap = { readonly version: number; readonly lastNumber: number; readonly members: readonly Member[] };

const MAP_KEY = replicatedKeys.clusterMap();

const row = record("cluster map", {
  version: u53,
  lastNumber: u32,
  members: list(struct({ id: text(32), number: u32, rank: u32, birth: fixed(8) }), 16),
});

export const putMap = (map: ClusterMap): Op => ({ op: "put", key: MAP_KEY, value: row.encode(map) });

export function decodeMap(raw: Uint8Array): ClusterMap {
  const { version, lastNumber, members } = row.decode(raw);
  return { version, lastNumber, members: members.map((member) => ({ ...member, id: member.id as NodeId })) };
}

export const configMap = (members: readonly Member[]): ClusterMap => ({
  version: 0,
  lastNumber: members.reduce((highest, { number }) => Math.max(highest, number), 0),
  members,
});

/** The map that a batch puts, or null. */
export function mapIn(ops: Batch): ClusterMap | null {
  for (const op of ops) if (op.op === "put" && equalBytes(op.key, MAP_KEY)) return decodeMap(op.value);
  return null;
}

export const memberOf = (map: ClusterMap, id: string): Member | null => map.members.find((member) => member.id === id) ?? null;

/** Most of all voting members, not of those that happen to be up. */
export const majorityOf = (map: ClusterMap): number => Math.floor(map.members.length / 2) + 1;

/** Whether what this disk says counts: it is the one that the map names. */
export function birthCounts(map: ClusterMap, number: number, birth: Uint8Array): boolean {
  const member = map.members.find((each) => each.number === number);
  return member !== undefined && (equalBytes(member.birth, birth) || mutant("paxos.vote-after-disk-loss"));
}
