/**
 * A node as a process: takes the folder's lock, opens the disk, hosts the daemon core, serves links and HTTP, and on the
 * primary keeps the merge loop running as a child. The admin port answers from the first moment on, so that somebody can ask
 * what is missing. Everything is closed in the opposite order; a halt of the core ends the process with its code.
 */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { toHex } from "../base/bytes.ts";
import { EngineError } from "../base/errors.ts";
import { CLIENT, type NodeId } from "../base/ids.ts";
import { answerAdmin, type Health, type Metric, type Missing } from "../gateway/admin.ts";
import { type LogStatus, logStatus } from "../gateway/log-status.ts";
import type { MergeConfig } from "../merge/config.ts";
import type { Answer, Request } from "../wire/messages.ts";
import { assembleDaemon, type DaemonAnswer, type DaemonRequest } from "./assemble.ts";
import type { NodeConfig } from "./config.ts";
import { type Disk, openDisk } from "./disk.ts";
import { type Driver, openDriver } from "./driver.ts";
import { endpointText } from "./endpoint.ts";
import { missingOf, step } from "./health.ts";
import { identityOf, MemberLinks } from "./hosting.ts";
import { HTTP_LIMITS, type HttpServer, listenHttp } from "./http.ts";
import { latchAfterSyncFailure } from "./latch.ts";
import { type Listener, listenLinks } from "./link.ts";
import { LiveConfig } from "./live-config.ts";
import { lockFile } from "./lock.ts";
import { answerLog } from "./log-routes.ts";
import { type MergeChild, startMergeChild } from "./merge-child.ts";
import { markForRecheck, recheck } from "./recheck.ts";
import { openReplica, type Replica } from "./replica.ts";
import { removeRunning, writeRunning } from "./running.ts";
import { mustBeOnlyOne } from "./twin.ts";

/** How often the disk is asked for its free space. */
const SPACE_EVERY_MS = 1_000;
/** How often what dead processes hold of the store is let go. */
const READERS_EVERY_MS = 60_000;
/** Requests that are open when the node is told to stop have this long to end. */
const GRACE_MS = 2_000;

export type DaemonOptions = {
  /** Whether the primary runs the merge loop. */
  readonly merge: boolean;
  /** Keep the replicated store in memory too, and compare every read of it (sync.md section 2.4). */
  readonly paranoid?: boolean;
  /** Shown by `/status`. */
  readonly version: string;
  /** One line for people. */
  readonly note: (text: string) => void;
};

export type ReadyLine = {
  readonly event: "ready";
  readonly id: NodeId;
  readonly pid: number;
  readonly dir: string;
  readonly admin: string;
  readonly peer: string;
  readonly log: string;
};

export type Daemon = {
  readonly ready: ReadyLine;
  /** Rejects with the code that the node halted with; resolves after `close`. */
  readonly ended: Promise<void>;
  close(): Promise<void>;
};

/** Throws NODE_RUNNING, and what any of its parts refuses; nothing is left open then. */
export async function startDaemon(node: NodeConfig, options: DaemonOptions): Promise<Daemon> {
  const daemon = new NodeDaemon(node, options);
  try {
    await daemon.open();
    return daemon;
  } catch (error) {
    await daemon.close();
    throw error;
  }
}

class NodeDaemon implements Daemon {
  readonly ended: Promise<void>;
  private readonly config: LiveConfig;
  private readonly node: NodeConfig;
  private readonly options: DaemonOptions;
  private readonly settle: { resolve(): void; reject(error: unknown): void };
  /** What was opened, to be closed from the last to the first. */
  private readonly closers: (() => Promise<unknown> | unknown)[] = [];
  private closing: Promise<void> | null = null;
  private missing: Missing[] = [step("store", "open", 0, "the store is being opened"), step("cluster", "listen", 50, "the peer port is not open yet")];
  private replica: Replica | null = null;
  private readonly startedMs = performance.now();
  private readonly boot = toHex(crypto.getRandomValues(new Uint8Array(16)));
  private readonly marks = new Map<string, number>();
  private ports = { peer: 0, admin: 0, log: 0 };
  private disk: Disk | null = null;
  private listener: Listener | null = null;
  private merge: MergeChild | null = null;
  private isSpaceLow: boolean | null = null;

  constructor(node: NodeConfig, options: DaemonOptions) {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.ended = promise;
    this.ended.catch(() => {}); // whoever waits for it hears it; nobody may have begun to
    this.settle = { resolve, reject };
    this.config = new LiveConfig(node);
    this.node = this.config.node;
    this.options = options;
  }

  get ready(): ReadyLine {
    const { self, dir } = this.node;
    // The addresses that others know, with the ports that were really taken.
    const at = (port: "admin" | "peer" | "log"): string => endpointText({ host: self[port].host, port: this.ports[port] });
    return { event: "ready", id: self.name, pid: process.pid, dir, admin: `http://${at("admin")}`, peer: at("peer"), log: `http://${at("log")}/log` };
  }

  async open(): Promise<void> {
    const { node, options } = this;
    const lock = await lockFile(join(node.dir, "lock.node"), { busy: "NODE_RUNNING" });
    this.closers.push(() => lock.release());
    await removeRunning(node.dir); // of a run that was killed
    await mustBeOnlyOne(node);
    const admin = await this.listenAdmin();
    await mkdir(join(node.dir, node.merge.folder), { recursive: true });
    const disk = await openDisk(node.dir, { create: false, paranoid: options.paranoid === true });
    this.disk = disk;
    this.closers.push(() => disk.close());
    const checked = await recheck(node.dir, disk);
    if (checked !== null) options.note(`a write had failed: ${checked} rows were read again, every checksum is right`);
    this.missing = this.missing.filter(({ task }) => task !== "store");
    const core = this.openCore(disk);
    const replica = this.openReplica(disk);
    const listener = await this.listenPeers(core, replica);
    const log = await this.listenLog(disk, core);
    this.ports = { peer: listener.port, admin: admin.port, log: log.port };
    this.watchDisk(disk, core);
    await writeRunning(node.dir, { pid: process.pid, boot: this.boot, ports: this.ports });
    this.closers.push(() => removeRunning(node.dir));
    if (options.merge && node.self.roles.includes("primary")) this.startMerge();
    this.missing = [];
  }

  close(): Promise<void> {
    this.closing ??= this.closeAll().then(this.settle.resolve, this.settle.reject);
    return this.closing;
  }

  private async closeAll(): Promise<void> {
    this.missing = [step("store", "stop", 0, "the node is stopping")];
    for (let closer = this.closers.pop(); closer !== undefined; closer = this.closers.pop()) await closer();
  }

  private openCore(disk: Disk): Driver<DaemonRequest, DaemonAnswer> {
    const { node } = this;
    const config: MergeConfig = { ...node.merge, boot: this.boot };
    const links = new MemberLinks(node, this.linkLost);
    const core = openDriver({ core: assembleDaemon(config), disk, connect: links.connect, mark: (name) => this.mark(name) });
    this.closers.push(async () => {
      links.close();
      await core.close();
    });
    void core.ended.then((end) => end.kind === "halt" && this.halt(new EngineError(end.code, end.detail)));
    core.start();
    return core;
  }

  private openReplica(disk: Disk): Replica {
    const hooks = { mark: (name: string, text?: string) => this.mark(name, text), linkLost: this.linkLost, isSpaceLow: () => this.isSpaceLow === true };
    const replica = openReplica(this.node, disk, hooks);
    this.replica = replica;
    this.closers.push(() => replica.close());
    void replica.ended.then((end) => end.kind === "halt" && this.halt(new EngineError(end.code, end.detail)));
    return replica;
  }

  /** The core's or the disk's end is the node's end: nothing is answered any more, and the process says why. */
  private halt(error: EngineError): void {
    this.settle.reject(error);
    if (error.code === "STORE_SYNC_FAILED") {
      markForRecheck(this.node.dir, error.message);
      void latchAfterSyncFailure(this.node, error.message); // the process ends behind it
    }
    void this.close();
  }

  private async listenAdmin(): Promise<HttpServer> {
    const { listen, adminToken } = this.node;
    const view = {
      token: adminToken,
      hosts: [listen.admin.host.includes(":") ? `[${listen.admin.host}]` : listen.admin.host],
      health: () => this.health(),
      status: () => this.status(),
      metrics: () => this.metrics(),
      replica: () => {
        const { replica } = this;
        if (replica === null || this.closing !== null) return null;
        const { store, trace } = replica;
        return {
          ask: (body: Request, patienceMs?: number) => replica.request(CLIENT, body, patienceMs),
          force: () => replica.force(),
          takeKeys: () => this.takeKeys(),
          store,
          trace,
        };
      },
    };
    return this.serve(await listenHttp(listen.admin, (request) => answerAdmin(request, view)));
  }

  private async listenLog(disk: Disk, core: Driver<DaemonRequest, DaemonAnswer>): Promise<HttpServer> {
    const { node } = this;
    return this.serve(await listenHttp(node.listen.log, answerLog({ node, disk, ask: (body) => core.request(CLIENT, body) }), HTTP_LIMITS));
  }

  private serve(server: HttpServer): HttpServer {
    this.closers.push(() => server.close(GRACE_MS));
    return server;
  }

  private async listenPeers(core: Driver<DaemonRequest, DaemonAnswer>, replica: Replica): Promise<Listener> {
    const { node } = this;
    const listener = await listenLinks({
      ...node.listen.peer,
      identity: identityOf(node),
      allow: () => this.config.allowed(),
      onRequest: async (from, body) => {
        if (replica.handles(body)) return replica.request(from, body);
        if (body.kind === "storage.ready") this.merge?.ready(from);
        return wireAnswer(await core.request(from, body));
      },
      onRefused: (reason) => this.mark(`link.refused.${reason.code}`, reason.message),
    });
    this.listener = listener;
    this.closers.push(() => listener.close());
    this.missing = this.missing.filter(({ task }) => task !== "cluster");
    return listener;
  }

  /** Tells the storage role when the disk gets too full to promise anything, and when that is over. */
  private watchDisk(disk: Disk, core: Driver<DaemonRequest, DaemonAnswer>): void {
    const look = (): void => {
      const low = disk.isNearlyFull();
      if (low === this.isSpaceLow) return;
      this.isSpaceLow = low;
      if (low) this.options.note(`${disk.freeBytes()} bytes are free on the disk of ${this.node.dir}: new entries are refused, what was accepted is merged`);
      core.request(CLIENT, { kind: "space", low }).catch(() => {}); // the node is ending: it needs no space
    };
    look();
    const timers = [setInterval(look, SPACE_EVERY_MS), setInterval(() => disk.clearDeadReaders(), READERS_EVERY_MS)];
    this.closers.push(() => {
      for (const timer of timers) clearInterval(timer);
    });
  }

  /** Members that were lost with their identities have others now, as `config.toml` says. */
  private async takeKeys(): Promise<readonly NodeId[]> {
    const changed = await this.config.takeKeys();
    const { merge } = this;
    if (changed.length > 0 && merge !== null && this.closing === null) void merge.close().then(() => this.closing === null && this.startMerge()); // the loop read its keys when it began
    return changed;
  }

  private startMerge(): void {
    const child = startMergeChild(this.node.dir, this.options.note);
    this.merge = child;
    this.closers.push(() => child.close());
  }

  private readonly linkLost = (peer: NodeId, reason: EngineError): void => this.mark(`link.lost.${reason.code}`, `${peer}: ${reason.message}`);

  private mark(name: string, text?: string): void {
    this.marks.set(name, (this.marks.get(name) ?? 0) + 1);
    if (process.env["CAIRN_TRACE"] !== undefined) this.options.note(`${this.node.self.name}: ${text ?? ""} [${name}]`);
  }

  private health(): Health {
    const { replica } = this;
    const missing = replica === null ? this.missing : [...this.missing, ...missingOf(replica)];
    return { ready: missing.length === 0, missing };
  }

  private status(): object {
    const { node } = this;
    return {
      id: node.self.name,
      cluster: toHex(node.clusterId),
      version: this.options.version,
      pid: process.pid,
      dir: node.dir,
      uptimeMs: Math.round(performance.now() - this.startedMs),
      roles: node.self.roles,
      ...this.health(),
      addresses: { admin: this.ready.admin, peer: this.ready.peer, log: this.ready.log },
      members: node.members.map(({ name, roles }) => ({ id: name, roles })),
      log: this.logStatus(),
      paxos:
        this.replica === null ? null : { ...this.replica.facts(), silent: this.replica.silent(), voteless: this.replica.voteless(), trim: this.replica.trim() },
      sync: this.replica === null ? null : { ...this.replica.sync(), explain: this.replica.explainSync() },
      links: this.listener?.stats() ?? null,
    };
  }

  private logStatus(): LogStatus | null {
    if (this.disk === null || this.closing !== null) return null;
    using snap = this.disk.snapshot();
    return logStatus(snap, { ...this.node.merge, boot: this.boot });
  }

  private metrics(): readonly Metric[] {
    const log = this.logStatus();
    const sizes =
      log === null
        ? []
        : (["orderSize", "storedSize", "verifiedSize", "publishedSize", "cosignedSize"] as const).map((key) => [key.slice(0, -4), log[key] ?? 0] as const);
    const positions = Object.entries(log?.merge?.positions ?? {});
    return [
      { name: "cairn_ready", type: "gauge", help: "1 when the node is ready.", samples: [{ value: this.missing.length === 0 ? 1 : 0 }] },
      {
        name: "cairn_uptime_seconds",
        type: "gauge",
        help: "Seconds since the node started.",
        samples: [{ value: Math.round(performance.now() - this.startedMs) / 1_000 }],
      },
      { name: "cairn_memory_bytes", type: "gauge", help: "Resident memory of the node's process.", samples: [{ value: process.memoryUsage.rss() }] },
      {
        name: "cairn_disk_low",
        type: "gauge",
        help: "1 while new entries are refused for lack of space.",
        samples: [{ value: this.isSpaceLow === true ? 1 : 0 }],
      },
      {
        name: "cairn_log_size_entries",
        type: "gauge",
        help: "Entries of the log, by how far this node is with them.",
        samples: sizes.map(([state, value]) => ({ labels: { state }, value })),
      },
      {
        name: "cairn_merge_position_entries",
        type: "gauge",
        help: "Entries that a secondary has verified.",
        samples: positions.map(([secondary, value]) => ({ labels: { secondary }, value })),
      },
      ...this.paxosMetrics(),
      {
        name: "cairn_marks_total",
        type: "counter",
        help: "How often a guard took a named branch.",
        samples: [...this.marks].map(([mark, value]) => ({ labels: { mark }, value })),
      },
    ];
  }

  private paxosMetrics(): readonly Metric[] {
    const { replica } = this;
    if (replica === null) return [];
    const facts = replica.facts();
    return [
      { name: "cairn_paxos_leading", type: "gauge", help: "1 while this node leads and may decide.", samples: [{ value: facts.isSettledLeader ? 1 : 0 }] },
      {
        name: "cairn_paxos_voteless",
        type: "gauge",
        help: "1 while nobody counts the vote of this node's disk: `cairn node replace`.",
        samples: [{ value: replica.voteless() === null ? 0 : 1 }],
      },
      { name: "cairn_paxos_epoch", type: "gauge", help: "Elections this node knows of; even when settled.", samples: [{ value: facts.epoch }] },
      {
        name: "cairn_paxos_version",
        type: "gauge",
        help: "Versions of the replicated store: the oldest held, the newest chosen, the newest applied.",
        samples: VERSIONS.map((state) => ({ labels: { state }, value: facts[state] })),
      },
    ];
  }
}

/** Of the replica, by how far it is with the versions. */
const VERSIONS = ["first", "last", "applied"] as const;
/** A peer is only answered with what the wire knows. */
function wireAnswer(answer: DaemonAnswer): Answer {
  if (answer.kind === "added") throw new EngineError("NOT_ALLOWED", "entries are added over HTTP, not by a peer");
  return answer;
}
