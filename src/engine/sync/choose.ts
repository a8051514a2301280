/**
 * Whom a laggard asks (sync.md section 4.7), and why not each of the others: the last word of every member is kept, so that
 * the choice can be explained. Joined, unflagged, of the same cluster, not below the floor; those first that have what a
 * resumed copy needs, then those that do not lead, those that answer soonest, then by rank. It asks nobody.
 */
import { equalBytes } from "../base/bytes.ts";
import type { NodeId } from "../base/ids.ts";
import { mutant } from "../base/mutant.ts";
import type { History } from "../store/versions.ts";
import type { Reply, SyncState } from "./state.ts";

/** `why` is null where the member could provide. */
export type Candidate = { readonly peer: NodeId; readonly why: string | null };

/** What the provider must hold: what this node was at before, or ever served. */
export function neededFloor({ requester }: SyncState, own: History): number {
  return requester.flag === null ? Math.max(requester.floor, own.last) : requester.floor;
}

/** Infeasible is exactly `last + 1 < first` of those that are ahead: nobody who is could hand over the next version. */
export function isInfeasible(own: History, replies: Iterable<Reply>): boolean {
  let isBehind = false;
  for (const reply of replies) {
    if (reply.synchronizing || reply.last <= own.last) continue;
    if (own.last + 1 >= reply.first) return false;
    isBehind = true;
  }
  return isBehind;
}

/** Answers this much apart came equally soon. */
const PROBE_STEP_MS = 5;

/** Every other member, the best provider first, those that cannot be last. */
export function candidates(state: SyncState, own: History, upMs: number): readonly Candidate[] {
  const { config, requester } = state;
  const oldest = config.isResuming ? (requester.cursor?.oldest ?? null) : null;
  const rated = config.members.flatMap((peer, rank) => {
    if (peer === config.self) return [];
    const reply = requester.replies.get(peer);
    const why = objection(state, own, peer, reply, upMs);
    const resumes = oldest !== null && reply !== undefined && reply.first <= oldest && oldest <= reply.last;
    const steps = Math.floor((reply?.tookMs ?? 0) / PROBE_STEP_MS);
    return [
      {
        peer,
        why,
        order: [Number(why !== null), Number(reply?.leader === ""), Number(!resumes && oldest !== null), Number(reply?.leader === peer), steps, rank],
      },
    ];
  });
  return rated.sort((a, b) => byFirstDifference(a.order, b.order)).map(({ peer, why }) => ({ peer, why }));
}

function byFirstDifference(a: readonly number[], b: readonly number[]): number {
  const at = a.findIndex((value, n) => value !== b[n]);
  return at < 0 ? 0 : (a[at] ?? 0) - (b[at] ?? 0);
}

function objection(state: SyncState, own: History, peer: NodeId, reply: Reply | undefined, upMs: number): string | null {
  if (reply === undefined) return "says nothing";
  if (!equalBytes(reply.cluster, state.config.cluster)) return "is of another cluster";
  if (reply.synchronizing) return "is synchronizing itself";
  // a flagged node may be the very vote that a leader lacks
  if (reply.leader === "" && state.requester.flag === null) return "follows nobody";
  const floor = neededFloor(state, own);
  if (reply.last < floor && !mutant("sync.floor-ignored")) return `has ${reply.last}, below the floor ${floor}`;
  if ((state.requester.avoided.get(peer) ?? 0) > upMs) return "was busy or wrong a moment ago";
  return null;
}
