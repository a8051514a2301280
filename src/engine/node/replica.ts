/**
 * The replica of a node as it runs beside the daemon (sync.md section 3): a driver of its own over the same disk, so that
 * no chunk of the merge stands before a vote, with links of its own for the same reason. The store is its alone.
 */
import type { EngineError } from "../base/errors.ts";
import type { NodeId } from "../base/ids.ts";
import type { ReplicaFacts } from "../paxos/paxos.ts";
import { PAXOS_TIMING, type PaxosConfig } from "../paxos/state.ts";
import type { Answer, Request } from "../wire/messages.ts";
import { assembleReplica } from "./assemble.ts";
import { birthOf } from "./birth.ts";
import type { NodeConfig } from "./config.ts";
import type { Disk } from "./disk.ts";
import { type Driver, openDriver } from "./driver.ts";
import { MemberLinks } from "./hosting.ts";

/** Trim leaves so many versions (sync.md 3.6). */
const KEEP_COUNT = 500;
const CLUSTER_BYTES = 8;

export type Replica = Pick<Driver<Request, Answer>, "request" | "ended" | "close"> & {
  /** Whether a peer's request is the replica's. */
  handles(body: Request): boolean;
  facts(): ReplicaFacts;
  /** This node leads, or follows a leader it heard of within a lease. */
  hasQuorum(): boolean;
};

export type ReplicaHooks = { readonly mark: (name: string, text?: string) => void; readonly linkLost: (peer: NodeId, reason: EngineError) => void };

export function openReplica(node: NodeConfig, disk: Disk, hooks: ReplicaHooks): Replica {
  const core = assembleReplica(paxosConfig(node, birthOf(disk, node.dir)), [{ log: node.merge.log, epoch: node.merge.epoch, primary: node.merge.primary }]);
  const links = new MemberLinks(node, hooks.linkLost);
  const driver = openDriver({ core, disk, connect: links.connect, mark: hooks.mark });
  driver.start();
  return {
    request: (from, body) => driver.request(from, body),
    ended: driver.ended,
    handles: core.handles,
    facts: () => core.facts(performance.now()),
    hasQuorum: () => {
      const { phase, leader, isSettledLeader } = core.facts(performance.now());
      return phase === "leading" ? isSettledLeader : phase === "following" && leader !== null;
    },
    close: async () => {
      links.close();
      await driver.close();
    },
  };
}

function paxosConfig(node: NodeConfig, birth: Uint8Array): PaxosConfig {
  const members = node.members.map(({ name, number, birth: voting }) => ({ id: name, number, rank: number, birth: voting }));
  return { cluster: node.clusterId.slice(0, CLUSTER_BYTES), self: node.self.name, birth, members, timing: PAXOS_TIMING, keepCount: KEEP_COUNT };
}
