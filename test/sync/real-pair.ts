/**
 * A provider that leads and a laggard, each with the real driver on a real disk, joined by a pipe in this process: the cores
 * of synchronisation as they will run in a daemon, without Paxos and without sockets. Bodies pass through the wire codec.
 */

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { u64be, utf8 } from "../../src/engine/base/bytes.ts";
import type { Op } from "../../src/engine/base/effects.ts";
import { type NodeId, nodeId } from "../../src/engine/base/ids.ts";
import { nextChance, prng } from "../../src/engine/base/prng.ts";
import { assembleSync } from "../../src/engine/node/assemble.ts";
import { type Disk, openDisk } from "../../src/engine/node/disk.ts";
import { type Driver, openDriver } from "../../src/engine/node/driver.ts";
import { decodeBatch, encodeBatch } from "../../src/engine/store/batch.ts";
import { acceptsKeys, replicatedKeys } from "../../src/engine/store/keys.ts";
import type { StoreSnapshot } from "../../src/engine/store/types.ts";
import { hashOf, historyIn, type historyOf } from "../../src/engine/store/versions.ts";
import { applyOps } from "../../src/engine/sync/records.ts";
import { DEFAULT_LIMITS, initialSync, type PaxosFacts, SYNC_TIMING, type SyncCall, type SyncConfig, type SyncState } from "../../src/engine/sync/state.ts";
import { isSyncRequest, mustAbstain } from "../../src/engine/sync/sync.ts";
import { type Answer, answers, type Request, requests } from "../../src/engine/wire/messages.ts";

type PairDriver = Driver<Request | SyncCall, Answer>;
export type PairNode = { readonly id: NodeId; readonly disk: Disk; readonly state: SyncState; readonly driver: PairDriver; readonly marks: string[] };

const CLUSTER = new Uint8Array(8).fill(0xc1);
const Y = nodeId("y");
const X = nodeId("x");
const FIRST = 100;
/** A third member that is never there: with it the two are a majority. */
const MEMBERS = [Y, X, nodeId("z")];

export class RealPair implements AsyncDisposable {
  readonly folder: string;
  readonly nodes = new Map<NodeId, PairNode>();
  /** Encoded chunks that crossed the pipe. */
  chunkBytes = 0;
  /** Encoded messages of every kind, both ways. */
  wireBytes = 0;
  private readonly mode: SyncConfig["mode"];
  private constructor(folder: string, mode: SyncConfig["mode"]) {
    this.folder = folder;
    this.mode = mode;
  }

  static async make(paranoid = false, mode: SyncConfig["mode"] = "full"): Promise<RealPair> {
    const pair = new RealPair(await mkdtemp(join(tmpdir(), "cairn-pair-")), mode);
    await pair.open(Y, paranoid);
    await pair.open(X, paranoid);
    return pair;
  }

  node(id: string): PairNode {
    return this.nodes.get(nodeId(id)) as PairNode;
  }

  private async open(id: NodeId, paranoid: boolean): Promise<void> {
    const disk = await openDisk(join(this.folder, id), { paranoid });
    const nonce = utf8(`${id}-nonce-`).slice(0, 8);
    const state = initialSync({
      cluster: CLUSTER,
      self: id,
      birth: CLUSTER,
      members: MEMBERS,
      nonce,
      limits: DEFAULT_LIMITS,
      timing: SYNC_TIMING,
      isResuming: true,
      mode: this.mode,
      holdsAll: false,
    });
    const facts = (): PaxosFacts => {
      using snap = disk.snapshot();
      const leads = id === Y;
      return {
        epoch: 2,
        leader: leads ? Y : null,
        ...historyIn(snap),
        mustSync: false,
        isSettled: leads,
        hasLeases: leads,
        isFirstReign: false,
        isTrimming: false,
        isNearlyFull: false,
      };
    };
    const sync = assembleSync(state, { views: disk.views(), facts, commitP99Us: () => null, votes: () => true, writtenBytes: () => 0 });
    const marks: string[] = [];
    const driver: PairDriver = openDriver<Request | SyncCall, Answer, Request, Answer>({
      core: {
        name: "pair",
        step: (event, snap) =>
          event.kind === "request" && !isSyncRequest(event.body)
            ? [{ kind: "answer", id: event.id, body: probeReply(id, state, historyIn(snap)) }]
            : sync.step(event, snap),
      },
      disk,
      mark: (name) => marks.push(name),
      connect: (on) => ({
        send: (to, requestId, body) => void this.carry(id, to, body).then((answer) => (answer === null ? on.lost(to) : on.message(to, requestId, answer))),
        close: () => {},
      }),
    });
    this.nodes.set(id, { id, disk, state, driver, marks });
  }

  private async carry(from: NodeId, to: NodeId, body: Request): Promise<Answer | null> {
    const target = this.nodes.get(to);
    if (target === undefined) return null;
    const raw = requests.encode(body).slice();
    if (body.kind === "sync.chunk") this.chunkBytes += raw.length;
    this.wireBytes += raw.length;
    try {
      const answer = answers.encode(await target.driver.request(from, requests.decode(raw))).slice();
      this.wireBytes += answer.length;
      return answers.decode(answer);
    } catch {
      return null;
    }
  }

  /** The laggard's store: as the provider's, but for a share of rows that are older. */
  async fillAlike(rowCount: number, valueBytes: number, changedShare: number): Promise<void> {
    const dice = prng(7);
    const older = (n: number): Uint8Array => new Uint8Array(valueBytes).fill(~n & 0xff);
    await this.fill(rowCount, valueBytes, { node: "x", older: (n) => (nextChance(dice, changedShare) ? older(n) : null) });
    await this.fill(rowCount, valueBytes);
  }

  /** The provider's store: so many rows of so many bytes, written by versions of 1,000 rows, the history trimmed to its end. */
  async fill(
    rowCount: number,
    valueBytes: number,
    { node = "y", older = () => null }: { readonly node?: string; readonly older?: (n: number) => Uint8Array | null } = {},
  ): Promise<void> {
    const rowsPerVersion = 1_000;
    const { disk } = this.node(node);
    let prev: Uint8Array | null = null;
    let version = FIRST;
    for (let at = 0; at < rowCount; at += rowsPerVersion, version++) {
      const ops: Op[] = [];
      for (let n = at; n < Math.min(rowCount, at + rowsPerVersion); n++) {
        const value = older(n);
        const key = utf8(`kv/key/${String(n).padStart(9, "0")}`);
        ops.push({ op: "put", key, value: value ?? new Uint8Array(valueBytes).fill(n & 0xff), wroteAt: value === null ? version : 3 });
      }
      const raw = encodeBatch([], prev);
      prev = hashOf(raw);
      await disk.write({ db: "replicated", batch: [...ops, ...applyOps(version, raw, decodeBatch(raw))] });
    }
    await disk.write({ db: "replicated", batch: [{ op: "put", key: replicatedKeys.first(), value: u64be(FIRST), wroteAt: FIRST }] });
    if (node === "x") {
      // where it stopped, long before the provider's first version
      await disk.write({ db: "replicated", batch: [{ op: "put", key: replicatedKeys.last(), value: u64be(3), wroteAt: 3 }] });
      return;
    }
    await this.node("x").disk.write({ db: "accepts", batch: [{ op: "put", key: acceptsKeys.vote(), value: utf8("a promise") }] });
    await this.node("x").disk.write({ db: "replicated", batch: [{ op: "put", key: utf8("kv/key/old"), value: utf8("of long ago"), wroteAt: 3 }] });
  }

  /** Both start; resolves when the laggard's flag has fallen, with the milliseconds it took. */
  async run(limitMs: number): Promise<number> {
    const startedMs = performance.now();
    this.node("y").driver.start();
    this.node("x").driver.start();
    while (!this.node("x").marks.includes("sync.flag-off")) {
      if (performance.now() - startedMs > limitMs)
        throw new Error(`x is ${this.node("x").state.requester.phase} after ${limitMs} ms: ${this.node("x").marks.join(" ")}`);
      await Bun.sleep(2);
    }
    return performance.now() - startedMs;
  }

  views(): { readonly x: StoreSnapshot; readonly y: StoreSnapshot; close(): void } {
    const [x, y] = [this.node("x").disk.views(), this.node("y").disk.views()];
    const [a, b] = [x.open(), y.open()];
    return { x: x.read(a), y: y.read(b), close: () => [x.close(a), y.close(b)] };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { driver } of this.nodes.values()) await driver.close();
    for (const { disk } of this.nodes.values()) await disk.close();
    await rm(this.folder, { recursive: true });
  }
}

function probeReply(id: NodeId, state: SyncState, own: ReturnType<typeof historyOf>): Answer {
  const scope = { cluster: CLUSTER, epoch: 2, birth: CLUSTER };
  const leader = id === Y ? Y : "";
  return {
    kind: "paxos.probe-reply",
    ...scope,
    ...own,
    hash: new Uint8Array(32),
    floor: state.requester.floor,
    synchronizing: mustAbstain(state),
    promised: { round: 1, member: 1 },
    leader,
    quorum: [],
  };
}
