/** One replica on a bench: member `a` of three, whose peers b and c are played by the test. */
import { utf8 } from "../../src/engine/base/bytes.ts";
import type { NodeId } from "../../src/engine/base/ids.ts";
import { stepPaxos } from "../../src/engine/paxos/paxos.ts";
import { clusterService } from "../../src/engine/paxos/service-cluster.ts";
import { kvService } from "../../src/engine/paxos/service-kv.ts";
import { logService } from "../../src/engine/paxos/service-log.ts";
import { initialPaxos, PAXOS_TIMING, type PaxosConfig, type PaxosState } from "../../src/engine/paxos/state.ts";
import { encodeBatch } from "../../src/engine/store/batch.ts";
import type { Answer, Request } from "../../src/engine/wire/messages.ts";
import { CoreBench, type Disk, newDisk } from "../merge/core-bench.ts";

export const [A, B, C] = ["a", "b", "c"] as NodeId[] as [NodeId, NodeId, NodeId];
export const CLUSTER = new Uint8Array(8).fill(1);
export const birthOf = (id: string): Uint8Array => new Uint8Array(8).fill(id.charCodeAt(0));
export const scopeOf = (id: string, epoch = 0) => ({ cluster: CLUSTER, epoch, birth: birthOf(id) });
export const services = [clusterService, kvService, logService([])];

export const config: PaxosConfig = {
  cluster: CLUSTER,
  self: A,
  birth: birthOf(A),
  members: [A, B, C].map((id, at) => ({ id, number: at + 1, rank: at, birth: birthOf(id) })),
  timing: PAXOS_TIMING,
  keepCount: 500,
};

export type ReplicaBench = CoreBench<PaxosState, Request, Answer, Request, Answer>;

/** A replica that has started and is past its quiet time. */
export function replicaOn(disk: Disk = newDisk(), own: PaxosConfig = config): ReplicaBench {
  const bench: ReplicaBench = new CoreBench((state, event, snap) => stepPaxos(state, services, event, snap), initialPaxos(own), disk);
  bench.start();
  bench.timeMs += 2_000;
  bench.takeSent();
  return bench;
}

/** A batch that says who made it, behind the one with this hash. */
export const batchOf = (text: string, prev: Uint8Array | null): Uint8Array =>
  encodeBatch([{ op: "put", key: utf8(`kv/key/${text}`), value: utf8(text) }], prev);
