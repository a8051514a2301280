/**
 * L1 of sync.md 5.1, the half that clients see: where faults have stopped and a majority hears each other, a write goes through
 * within ten virtual seconds, wherever it is asked for. A client that is refused asks again.
 */
import type { NodeId } from "../base/ids.ts";
import { type PaxosClients, put } from "./paxos-clients.ts";
import type { PaxosCall, PaxosCluster } from "./paxos-world.ts";
import { runFor } from "./steer.ts";

const PROGRESS_MS = 10_000;
const AGAIN_MS = 100;

/** What is wrong, or null: also where another invariant broke meanwhile. */
export function stuckWrite({ world }: Pick<PaxosCluster, "world">, clients: PaxosClients, ids: readonly NodeId[]): string | null {
  const isBroken = (): boolean => world.violations.length > 0;
  for (const id of ids) {
    const endMs = world.nowMs + PROGRESS_MS;
    let call: PaxosCall | null = null;
    while (world.nowMs < endMs && !isBroken()) {
      call = clients.ask(id, put("live", clients.nextValue()));
      const asked = call;
      runFor(world, endMs - world.nowMs, () => asked.state !== "waiting" || isBroken());
      if (asked.body?.kind === "kv.written") break;
      runFor(world, AGAIN_MS);
    }
    if (isBroken()) return null;
    if (call?.body?.kind !== "kv.written") return `L1 a write at ${id} did not go through within ${PROGRESS_MS / 1_000} s of a whole majority`;
  }
  return null;
}
