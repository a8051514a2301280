/** Storage nodes and a primary's disk for tests of the queue handler: messages travel only when the test says so. */
import { CLIENT, type NodeId } from "../../src/engine/base/ids.ts";
import { EMPTY_ROOT } from "../../src/engine/log/merkle.ts";
import { LogReader } from "../../src/engine/log/reader.ts";
import type { MergeConfig, StepResult } from "../../src/engine/merge/config.ts";
import { type FetchState, initialFetch, stepFetch } from "../../src/engine/merge/fetch.ts";
import { sthFile } from "../../src/engine/merge/files.ts";
import { initialQueue, stepQueue } from "../../src/engine/merge/queue.ts";
import type { QueueState } from "../../src/engine/merge/queue-state.ts";
import { readEdge } from "../../src/engine/merge/records.ts";
import { initialStorage, stepStorage } from "../../src/engine/merge/storage.ts";
import type { StorageReply, StorageRequest, StorageState } from "../../src/engine/merge/storage-state.ts";
import { applyFlush, DiskSnapshot } from "../../src/engine/sim/disk.ts";
import type { Answer, Request } from "../../src/engine/wire/messages.ts";
import { CoreBench, newDisk } from "./core-bench.ts";
import { bundle, configOf, hexes, names, P } from "./fixture.ts";

export type StorageBench = CoreBench<StorageState, StorageRequest, Answer, Request, StorageReply>;
export type StepBench = CoreBench<FetchState | QueueState, never, Answer, Request, StepResult>;

export class QueueCluster {
  readonly config: MergeConfig;
  readonly primary = newDisk();
  readonly storages: readonly NodeId[];
  readonly benches = new Map<NodeId, StorageBench>();
  /** Storage nodes that do not answer. */
  readonly silent = new Set<NodeId>();

  constructor(storages = "a,b", change: Partial<MergeConfig> = {}, withHead = true) {
    this.storages = names(storages);
    this.config = configOf(P, { storages: this.storages, storagequorum: 1, ...change });
    for (const id of this.storages) this.boot(id);
    // as `log init` leaves it: the first head is there
    const sth = sthFile(this.config, { epoch: 1, size: 0, root: EMPTY_ROOT, counted: [], timeMs: 0, note: "the head of size 0" });
    if (withHead) this.primary.image = applyFlush(this.primary.image, sth);
  }

  /** A storage node on a new disk, or after a crash on its old one. */
  boot(id: NodeId, disk = this.benches.get(id)?.disk ?? newDisk(), boot = `${id}.1`): StorageBench {
    const config = { ...this.config, self: id, boot, receiptSeed: new Uint8Array(32).fill(9) };
    const bench = new CoreBench(stepStorage, initialStorage(config), disk).start() as StorageBench;
    this.benches.set(id, bench);
    return bench;
  }

  storage(id: NodeId): StorageBench {
    return this.benches.get(id) as StorageBench;
  }

  add(id: NodeId, ...numbers: readonly number[]): void {
    this.storage(id).request(CLIENT, { kind: "add", bundle: bundle(...numbers) });
    this.storage(id).storeAll();
  }

  fetcher(id: NodeId): StepBench {
    return new CoreBench(stepFetch, initialFetch(this.config, id), this.primary).start() as unknown as StepBench;
  }

  queue(): StepBench {
    return new CoreBench(stepQueue, initialQueue(this.config), this.primary).start() as unknown as StepBench;
  }

  /** Delivers what a step sent; false where nothing was. A silent node's part is dropped. */
  deliver(step: StepBench): boolean {
    const sent = step.takeSent();
    for (const { to, body, requestId } of sent) {
      if (this.silent.has(to)) continue;
      const bench = this.storage(to);
      step.message(to, requestId, bench.answers.get(bench.request(P, body)) as Answer);
    }
    return sent.length > 0;
  }

  /** Runs a step to its end; timers fire when nothing else is left to do. */
  finish(step: StepBench): StepResult {
    while (step.done === null) if (!this.deliver(step) && !step.storeNext() && !step.fire([...step.timers.keys()][0] ?? "")) break;
    return step.done as unknown as StepResult;
  }

  fetchAll(): void {
    for (const id of this.storages) this.finish(this.fetcher(id));
  }

  /** One round of the seed's first program. */
  round(): StepResult {
    this.fetchAll();
    return this.finish(this.queue());
  }

  get snap(): DiskSnapshot {
    return new DiskSnapshot(this.primary.image, "test");
  }

  /** Hashes of the order, in hex. */
  order(): string[] {
    return hexes(new LogReader(this.snap, this.config.log).orderHashes(0, readEdge(this.snap, this.config.log).size));
  }
}
