/**
 * Entries a second through the first program of the merge in one process, without sockets and fsyncs: add and put at two
 * storage nodes, fetch, queue. Run: `bun test/merge/bench.ts [ENTRIES] [PER_ADD]`. Each part's time is its core's and the memory
 * twin's; the real store does its commits in other threads.
 */
import { CLIENT, type NodeId } from "../../src/engine/base/ids.ts";
import { bundleOf } from "../../src/engine/log/entry.ts";
import type { StepResult } from "../../src/engine/merge/config.ts";
import type { Answer } from "../../src/engine/wire/messages.ts";
import { A, B, P, range } from "./fixture.ts";
import { QueueCluster, type StepBench } from "./queue-cluster.ts";

const total = Number(process.argv[2] ?? 100_000);
const perAdd = Number(process.argv[3] ?? 1_000);
const ENTRY_BYTES = 200;

const spent = new Map<string, number>();
function timed<T>(part: string, work: () => T): T {
  const from = performance.now();
  const result = work();
  spent.set(part, (spent.get(part) ?? 0) + performance.now() - from);
  return result;
}

function entryOf(number: number): Uint8Array {
  const entry = new Uint8Array(ENTRY_BYTES).fill(number & 0xff);
  new DataView(entry.buffer).setUint32(0, number);
  return entry;
}

const cluster = new QueueCluster("a,b", { storagequorum: 2, promiseMs: 1e9 });
for (const id of cluster.storages) cluster.storage(id).cloning = false;

/** Puts of `from` reach the other node, their answers come back. */
function exchange(from: NodeId, to: NodeId): void {
  for (const { body, requestId } of cluster.storage(from).takeSent()) {
    if (body.kind !== "storage.put") continue;
    const id = timed("put", () => {
      const put = cluster.storage(to).request(from, body);
      cluster.storage(to).storeAll();
      return put;
    });
    timed("receipts", () => cluster.storage(from).message(to, requestId, cluster.storage(to).answers.get(id) as Answer));
  }
  cluster.storage(to).takeSent();
}

let receiptBytes = 0;
for (let at = 0; at < total; at += perAdd) {
  const bundle = bundleOf(range(at, at + perAdd).map(entryOf));
  const [from, to] = (at / perAdd) % 2 === 0 ? [A, B] : [B, A];
  const id = timed("add", () => {
    const add = cluster.storage(from).request(CLIENT, { kind: "add", bundle });
    cluster.storage(from).storeAll();
    return add;
  });
  exchange(from, to);
  const answer = cluster.storage(from).answers.get(id);
  if (answer?.kind === "added") receiptBytes += answer.lines.length;
}

function run(part: string, step: StepBench): StepResult {
  step.cloning = false;
  while (step.done === null) {
    const sent = step.takeSent();
    for (const { to, requestId, body } of sent) {
      const bench = cluster.storage(to);
      const answer = timed(`${part}: storage`, () => bench.answers.get(bench.request(P, body)) as Answer);
      timed(part, () => step.message(to, requestId, answer));
    }
    if (sent.length === 0) timed(part, () => step.storeNext());
  }
  return step.done as unknown as StepResult;
}

for (const id of cluster.storages) run("fetch", cluster.fetcher(id));
const result = run("queue", cluster.queue());
console.log(
  `${total} entries of ${ENTRY_BYTES} bytes, ${perAdd} an add; receipts ${Math.round(receiptBytes / total)} bytes each; ${JSON.stringify(result.counts)}`,
);
for (const [part, ms] of spent)
  console.log(`${part.padEnd(16)} ${((ms * 1_000) / total).toFixed(2)} us an entry, ${Math.round((total / ms) * 1_000)} entries/s`);
