/**
 * Whether this store may be replaced where distance did not force it (sync.md section 4.2): not before a majority without this
 * node shows that it has all that is here, for this may be one of the copies that made a version chosen. It looks at the
 * answers of a round of probing; who asks, and what becomes of the store, is `requester.ts`.
 */
import type { Requester, Turn } from "./state.ts";

/** A store that was cleared has nothing left to lose, and with its rows went the map that says who votes (seed 4355). */
export const mayHoldACopy = ({ isForced, flag }: Requester): boolean => isForced && flag?.isCleared !== true;

/** A disk that took a lost one's place and does not vote yet decides nothing, whatever it has. */
export function othersWith({ state, ports }: Turn, version: number): number {
  let count = 0;
  for (const [peer, reply] of state.requester.replies) if (!reply.synchronizing && reply.last >= version && ports.votes(peer, reply.birth)) count++;
  return count;
}

export const majorityOf = ({ state }: Turn): number => Math.floor(state.config.members.length / 2) + 1;
