/**
 * A store copied from one folder to another without a cluster (sync.md, table B row 8): the two cores of synchronisation, each
 * with the real driver on its own disk, joined by a pipe in this process. FROM is read as of one moment, also while its node
 * runs; TO must be stopped, is locked, and keeps its identity, its promises and what it accepted: only `replicated` is replaced,
 * under the same flag, floor and cursor as ever, so a run that is cut off is finished by the next one or by the cluster.
 */
import { join } from "node:path";
import { equalBytes } from "../base/bytes.ts";
import type { Snapshot } from "../base/effects.ts";
import { EngineError } from "../base/errors.ts";
import { CLIENT, type NodeId } from "../base/ids.ts";
import { digestSnapshot } from "../store/diff.ts";
import { acceptsKeys } from "../store/keys.ts";
import type { StoreSnapshot } from "../store/types.ts";
import { type History, hashAt, historyIn, historyOf, replicatedOf, ZERO_HASH } from "../store/versions.ts";
import { isFlagged, syncRows } from "../sync/records.ts";
import { DEFAULT_LIMITS, initialSync, type PaxosFacts, SYNC_TIMING, type SyncCall, type SyncConfig, type SyncState, type Views } from "../sync/state.ts";
import { isSyncRequest } from "../sync/sync.ts";
import type { Answer, Request } from "../wire/messages.ts";
import { assembleSync } from "./assemble.ts";
import { birthOf } from "./birth.ts";
import type { NodeConfig } from "./config.ts";
import { type Disk, openDisk } from "./disk.ts";
import { type Driver, openDriver } from "./driver.ts";
import { lockFile } from "./lock.ts";
import { Silence } from "./silence.ts";

export type OfflineMode = "full" | "resume" | "delta";
export type OfflinePlan = {
  readonly from: { readonly id: NodeId; readonly first: number; readonly last: number };
  readonly to: {
    readonly id: NodeId;
    readonly first: number;
    readonly last: number;
    readonly floor: number /** An earlier copy was cut off. */;
    readonly isHalf: boolean;
  };
  /** Nothing is cleared: the copy goes on where an earlier one ended. */
  readonly resumes: boolean;
};
export type OfflineResult = { readonly version: number; readonly chunks: number; readonly bytes: number; readonly digest: string };

/** A core that says nothing for so long is not going to. */
const SILENCE_MS = 60_000;
/** Nobody is far away. */
const TIMING = { ...SYNC_TIMING, probeMs: 20, backoffMs: 20 };
const NONCE_BYTES = 8;
const EPOCH = 2;
/** What ends a copy that can not be finished here. */
const FATAL: readonly string[] = ["sync.no-provider", "sync.force-refused", "sync.withdrawn", "sync.alarm", "sync.refused"];

type Pipe = Driver<Request | SyncCall, Answer>;

export type OfflineSync = AsyncDisposable & {
  readonly plan: OfflinePlan;
  /** Null where it was told to stop. Throws STORE_CORRUPT where the copy is not equal in the end. `mark` tells what the cores do. */
  run(mark: (text: string) => void, signal: AbortSignal): Promise<OfflineResult | null>;
};

/** Opens both folders, TO under its node's lock. Throws NODE_RUNNING, NOT_ALLOWED, SYNC_BEHIND, NOT_READY. */
export async function openOfflineSync(from: NodeConfig, to: NodeConfig, mode: OfflineMode): Promise<OfflineSync> {
  const closers = new AsyncDisposableStack();
  try {
    if (!equalBytes(from.clusterId, to.clusterId)) throw new EngineError("NOT_ALLOWED", `${from.dir} and ${to.dir} are of two clusters`);
    if (from.self.name === to.self.name) throw new EngineError("BAD_OPTION", `${from.dir} and ${to.dir} are both of node ${to.self.name}`);
    const lock = await lockFile(join(to.dir, "lock.node"), { busy: "NODE_RUNNING" });
    closers.defer(() => lock.release());
    const source = await openDisk(from.dir, { create: false });
    closers.defer(() => source.close());
    const target = await openDisk(to.dir, { create: false });
    closers.defer(() => target.close());
    const copy = new OfflineCopy(new Source(from, source), { node: to, disk: target }, mode);
    closers.defer(() => copy.close());
    return { plan: copy.plan, run: (mark, signal) => copy.run(mark, signal), [Symbol.asyncDispose]: () => closers.disposeAsync() };
  } catch (error) {
    await closers.disposeAsync();
    throw error;
  }
}

/** FROM as of one moment: what its node writes meanwhile is not part of the copy, and nothing is ever written to it. */
class Source {
  readonly node: NodeConfig;
  readonly disk: Disk;
  readonly rows: StoreSnapshot;
  readonly history: History;
  readonly views: Views;
  readonly snapshot: Snapshot;
  private readonly unpin: () => void;

  constructor(node: NodeConfig, disk: Disk) {
    using now = disk.snapshot();
    if (isFlagged(now)) throw new EngineError("NOT_READY", `${node.dir} is half a store itself: its own copy was not finished`);
    const views = disk.views();
    const view = views.open();
    const rows = views.read(view);
    this.node = node;
    this.disk = disk;
    this.rows = rows;
    this.history = historyOf(rows);
    let lastView = 0;
    this.views = { open: () => ++lastView, read: () => rows, close: () => {}, stat: () => views.stat() };
    this.snapshot = {
      get: (db, key) => (db === "replicated" ? rows.get(key) : undefined),
      peek: (db, key) => (db === "replicated" ? rows.peek(key) : undefined),
      row: (db, key) => (db === "replicated" ? rows.row(key) : undefined),
      wroteAt: (db, key) => (db === "replicated" ? rows.wroteAt(key) : undefined),
      range: (db, low, high, options) => (db === "replicated" ? rows.iterate(low, high, options) : []),
      fileSize: () => null,
      fileRead: () => null,
      fileList: () => [],
    };
    this.unpin = () => views.close(view);
  }

  close(): void {
    this.unpin();
  }
}

type Target = { readonly node: NodeConfig; readonly disk: Disk };

class OfflineCopy {
  readonly plan: OfflinePlan;
  private readonly source: Source;
  private readonly target: Target;
  private readonly mode: OfflineMode;
  private readonly drivers: Pipe[] = [];
  private chunks = 0;
  private bytes = 0;

  constructor(source: Source, target: Target, mode: OfflineMode) {
    this.source = source;
    this.target = target;
    this.mode = mode;
    this.plan = this.planned();
  }

  private planned(): OfflinePlan {
    const { source, target, mode } = this;
    using snap = target.disk.snapshot();
    snap.get("accepts", acceptsKeys.vote()); // a copy mends the store alone: a disk that forgot its votes is replaced
    const own = historyIn(snap);
    const floor = syncRows.floor(snap);
    const isHalf = isFlagged(snap);
    const needed = isHalf ? floor : Math.max(floor, own.last);
    if (source.history.last < needed)
      throw new EngineError("SYNC_BEHIND", `${source.node.dir} ends at ${source.history.last}, ${target.node.dir} has served ${needed}`);
    const cursor = isHalf && mode === "resume" ? syncRows.cursor(snap) : null;
    const resumes = cursor !== null && !cursor.isDelta && cursor.oldest >= source.history.first && cursor.version <= source.history.last;
    return { from: { id: source.node.self.name, ...source.history }, to: { id: target.node.self.name, ...own, floor, isHalf }, resumes };
  }

  async run(mark: (text: string) => void, signal: AbortSignal): Promise<OfflineResult | null> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const watch = new Silence(SILENCE_MS, () => reject(new EngineError("TIMEOUT", `nothing happened for ${SILENCE_MS} ms`)));
    const onAbort = (): void => resolve();
    signal.addEventListener("abort", onAbort, { once: true });
    const heard = (name: string, text: string | undefined): void => {
      watch.heard();
      if (name.startsWith("sync.") && text !== undefined) mark(text);
      if (FATAL.includes(name)) reject(new EngineError("SYNC_REFUSED", text ?? name));
      if (name === "sync.flag-off") resolve();
    };
    try {
      const provider = this.provider(heard, watch);
      const requester = this.requester(heard, watch, () => provider);
      this.drivers.push(provider, requester);
      for (const driver of this.drivers) void driver.ended.then((end) => end.kind === "halt" && reject(new EngineError(end.code, end.detail)));
      provider.start();
      requester.start();
      // where the distance does not force it, the wish does
      requester.request(CLIENT, { kind: "sync.force" }).catch(() => {}); // told by how the driver ended
      await promise;
    } finally {
      watch.end();
      signal.removeEventListener("abort", onAbort);
      for (const driver of this.drivers.splice(0)) await driver.close();
    }
    return signal.aborted ? null : this.compared();
  }

  /** Every row of both, read once more: what the cores proved is not taken on trust. */
  private compared(): OfflineResult {
    const { source, target, chunks, bytes } = this;
    const views = target.disk.views();
    const view = views.open();
    try {
      const [wanted, got] = [digestSnapshot(source.rows).toHex(), digestSnapshot(views.read(view)).toHex()];
      if (wanted !== got) throw new EngineError("STORE_CORRUPT", `${target.node.dir} has digest ${got}, ${source.node.dir} has ${wanted}`);
      return { version: source.history.last, chunks, bytes, digest: got };
    } finally {
      views.close(view);
    }
  }

  close(): void {
    this.source.close();
  }

  private provider(mark: (name: string, text: string | undefined) => void, watch: Silence): Pipe {
    const { source } = this;
    const { node, disk } = source;
    const state = initialSync(this.config(node, disk, []));
    const facts = (): PaxosFacts => ({ ...FACTS, ...source.history, leader: node.self.name, isSettled: true, hasLeases: true });
    const core = assembleSync(state, { views: source.views, facts, commitP99Us: () => null, votes: () => true, writtenBytes: () => 0 });
    return openDriver<Request | SyncCall, Answer, Request, Answer>({
      core: {
        name: "offline provider",
        step: (event) =>
          event.kind === "request" && !isSyncRequest(event.body)
            ? [{ kind: "answer", id: event.id, body: this.whereSourceStands(state) }]
            : core.step(event, source.snapshot),
      },
      disk,
      mark,
      connect: (on) => ({
        send: (to, requestId, body) => {
          watch.heard();
          if (body.kind === "sync.chunk") this.count(body.batch);
          carry(this.drivers[1], node.self.name, body, (answer) => on.message(to, requestId, answer));
        },
        close: () => {},
      }),
    });
  }

  private requester(mark: (name: string, text: string | undefined) => void, watch: Silence, provider: () => Pipe): Pipe {
    const { node, disk } = this.target;
    // the others who vote are not asked: what they have is not known here, FROM has all that this store ever served
    const state = initialSync(this.config(node, disk, [this.source.node.self.name]));
    const facts = (): PaxosFacts => {
      using snap = disk.snapshot();
      return { ...FACTS, ...historyIn(snap) };
    };
    const core = assembleSync(state, { views: disk.views(), facts, commitP99Us: () => null, votes: () => true, writtenBytes: () => 0 });
    return openDriver<Request | SyncCall, Answer, Request, Answer>({
      core,
      disk,
      mark,
      connect: (on) => ({
        send: (to, requestId, body) =>
          carry(provider(), node.self.name, body, (answer) => {
            watch.heard();
            if (answer.kind === "sync.range-rows") this.count(answer.batch);
            on.message(to, requestId, answer);
          }),
        close: () => {},
      }),
    });
  }

  private count(batch: Uint8Array): void {
    this.chunks++;
    this.bytes += batch.length;
  }

  private config({ clusterId, self }: NodeConfig, disk: Disk, others: readonly NodeId[]): SyncConfig {
    return {
      cluster: clusterId.slice(0, 8),
      self: self.name,
      birth: birthOf(disk, self.name),
      members: others.length === 0 ? [self.name] : others,
      nonce: crypto.getRandomValues(new Uint8Array(NONCE_BYTES)),
      limits: DEFAULT_LIMITS,
      timing: TIMING,
      isResuming: this.mode === "resume",
      mode: this.mode === "delta" ? "delta" : "full",
      holdsAll: false,
    };
  }

  private whereSourceStands({ config, requester }: SyncState): Answer {
    const { history, snapshot } = this.source;
    return {
      kind: "paxos.probe-reply",
      cluster: config.cluster,
      epoch: EPOCH,
      birth: config.birth,
      ...history,
      hash: hashAt(replicatedOf(snapshot), history.last) ?? ZERO_HASH,
      floor: requester.floor,
      synchronizing: false,
      promised: { round: 0, member: 0 },
      quorum: [],
      leader: config.self,
    };
  }
}

const FACTS = {
  epoch: EPOCH,
  leader: null,
  mustSync: false,
  isSettled: false,
  hasLeases: false,
  isTrimming: false,
  isNearlyFull: false,
  isFirstReign: false,
} as const;

/** A question through the pipe; one that finds nobody is as good as lost. */
function carry(to: Pipe | undefined, from: NodeId, body: Request, answered: (answer: Answer) => void): void {
  to?.request(from, body).then(answered, () => {});
}
