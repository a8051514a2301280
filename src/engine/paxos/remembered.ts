/**
 * The rows of what a member remembers of the others (sync.md 3.7): the newest ballot and version that each acked to it, or
 * asked it for, under the birth of the disk that did. They ride on whatever is written next; `peers.ts` says what they are for.
 */
import { equalBytes } from "../base/bytes.ts";
import type { Op, Snapshot } from "../base/effects.ts";
import { acceptsKeys } from "../store/keys.ts";
import { fixed, type Infer, u32, u53 } from "../wire/codec.ts";
import { record } from "../wire/record.ts";
import { type Ballot, compareBallots } from "./ballot.ts";

const fields = { birth: fixed(8), round: u53, member: u32, version: u53 };
const row = record("paxos peer", fields);
export type Remembered = Infer<typeof fields>;

/** By member number, and the numbers whose row on disk is older. */
export type Memory = { readonly rows: Map<number, Remembered>; readonly unwritten: Set<number> };

/** What this run remembers is newer than its rows, some of which may be unwritten still. */
export function loadMemory({ rows }: Memory, numbers: readonly number[], snap: Snapshot): void {
  for (const number of numbers) {
    const raw = rows.has(number) ? undefined : snap.get("accepts", acceptsKeys.peer(number));
    if (raw !== undefined) rows.set(number, row.decode(raw));
  }
}

/** Another disk of the same member begins anew. */
export function remember(memory: Memory, number: number, birth: Uint8Array, ballot: Ballot, version: number): void {
  const { rows, unwritten } = memory;
  const known = knownOf(memory, number, birth);
  const isNewer = compareBallots(ballot, known) > 0;
  if (!isNewer && version <= known.version) return;
  const { round, member } = isNewer ? ballot : known;
  rows.set(number, { birth, round, member, version: Math.max(version, known.version) });
  unwritten.add(number);
}

/** What a disk is remembered to have acked. */
export function knownOf({ rows }: Memory, number: number, birth: Uint8Array): Remembered {
  const known = rows.get(number);
  return known !== undefined && equalBytes(known.birth, birth) ? known : { birth, round: 0, member: 0, version: 0 };
}

/** Whether a disk reports less than it once acked. */
export const showsLess = (memory: Memory, number: number, birth: Uint8Array, version: number): boolean => version < knownOf(memory, number, birth).version;

/** Rows that the next write takes along. */
export function takeUnwritten({ rows, unwritten }: Memory): Op[] {
  const ops: Op[] = [];
  for (const number of unwritten) {
    const known = rows.get(number);
    if (known !== undefined) ops.push({ op: "put", key: acceptsKeys.peer(number), value: row.encode(known) });
  }
  unwritten.clear();
  return ops;
}
