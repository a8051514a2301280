/** The real driver with real links and a real disk: it passes the same suite of duties as the simulated world. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { toHex } from "../../src/engine/base/bytes.ts";
import { EngineError } from "../../src/engine/base/errors.ts";
import { CLIENT, type NodeId, nodeId } from "../../src/engine/base/ids.ts";
import { type Disk, openDisk } from "../../src/engine/node/disk.ts";
import { type Driver, openDriver } from "../../src/engine/node/driver.ts";
import { type LinkIdentity, type Listener, listenLinks, openLink } from "../../src/engine/node/link.ts";
import { openPeers } from "../../src/engine/node/peers.ts";
import { keyPairOf } from "../../src/engine/wire/identity.ts";
import type { Answer, Request } from "../../src/engine/wire/messages.ts";
import { type BenchNode, type DriverBench, driverContract } from "../contract/driver.ts";
import { newRecord, type ToyCommand, type ToyRecord, type ToyReply, toyCore } from "../contract/toy-core.ts";

driverContract("real driver", openBench);

const CLUSTER = new Uint8Array(32).fill(7);
const NAMES = ["a", "b"] as const;
/** With nothing known to be on its way, long enough for an answer to cross an open link and for timers at hand. */
const QUIET_MS = 15;
const SETTLE_MS_MAX = 5_000;

/** `writing` counts what is past the gate and not yet on disk. */
type Faults = { gate: Promise<void>; open: () => void; failNext: boolean; fullNext: boolean; writing: number };
type Node = {
  readonly id: NodeId;
  readonly dir: string;
  readonly identity: LinkIdentity;
  readonly key: Uint8Array;
  readonly faults: Faults;
  readonly replies: string[];
  /** Requests sent and neither received nor lost, as `to requestId`. */
  readonly air: Set<string>;
  port: number;
  record: ToyRecord;
  ended: string | null;
  disk: Disk | null;
  driver: Driver<Request | ToyCommand, ToyReply> | null;
  listener: Listener | null;
};

async function openBench(): Promise<DriverBench> {
  const folder = await mkdtemp(join(tmpdir(), "cairn-driver-"));
  const nodes = new Map(NAMES.map((name, at) => [name, makeNode(name, join(folder, name), at + 1)]));
  const of = (name: BenchNode): Node => nodes.get(name) as Node;
  for (const name of NAMES) await startNode(of(name), nodes);
  const a = of("a");
  const settle = async (): Promise<void> => {
    const all = NAMES.map(of);
    const count = (): number => all.reduce((sum, { record, replies }) => sum + record.seen.length + replies.length, 0);
    const isBusy = (): boolean => all.some(({ air, faults }) => air.size > 0 || faults.writing > 0);
    const untilMs = performance.now() + SETTLE_MS_MAX;
    for (let before = -1; (isBusy() || before !== count()) && performance.now() < untilMs; ) {
      before = count();
      await Bun.sleep(QUIET_MS);
    }
  };
  await settle();
  return {
    async tell(name, command) {
      const node = of(name);
      node.driver?.request(CLIENT, command).then(
        (reply) => reply.kind === "said" && node.replies.push(reply.text),
        () => {}, // the node ended before it answered
      );
    },
    record: (name) => of(name).record,
    replies: (name) => of(name).replies,
    ended: (name) => of(name).ended,
    storage: {
      pause() {
        const { promise, resolve } = Promise.withResolvers<void>();
        a.faults.gate = promise;
        a.faults.open = resolve;
      },
      resume: () => a.faults.open(),
      failNext() {
        a.faults.failNext = true;
      },
      fullNext() {
        a.faults.fullNext = true;
      },
    },
    settle,
    passMs: (ms) => Bun.sleep(ms),
    kill: (name) => killNode(of(name)),
    start: (name) => startNode(of(name), nodes),
    async [Symbol.asyncDispose]() {
      a.faults.open();
      for (const name of NAMES) await killNode(of(name));
      await rm(folder, { recursive: true });
    },
  };
}

function makeNode(name: BenchNode, dir: string, seedByte: number): Node {
  const seed = new Uint8Array(32).fill(seedByte);
  const id = nodeId(name);
  const faults = { gate: Promise.resolve(), open: () => {}, failNext: false, fullNext: false, writing: 0 };
  const life = { record: newRecord(), ended: null, disk: null, driver: null, listener: null };
  return { id, dir, identity: { node: id, seed, cluster: CLUSTER }, key: keyPairOf(seed).publicKey, faults, replies: [], air: new Set(), port: 0, ...life };
}

async function startNode(node: Node, nodes: ReadonlyMap<BenchNode, Node>): Promise<void> {
  const disk = await openDisk(node.dir);
  const record = newRecord();
  const peers = [...nodes.values()].filter((each) => each !== node);
  const driver: Driver<Request | ToyCommand, ToyReply> = openDriver({
    core: toyCore(record),
    disk: faulty(disk, node.faults),
    connect: (on) => {
      const links = openPeers({
        open: (to, hooks) => {
          const peer = peers.find(({ id }) => id === to) as Node;
          return openLink({
            to,
            host: "127.0.0.1",
            port: peer.port,
            identity: node.identity,
            peerKey: peer.key,
            onAnswer: hooks.answer,
            onLost: hooks.lost,
          });
        },
        message: on.message,
        lost: (peer) => {
          for (const sent of node.air) if (sent.startsWith(`${peer} `)) node.air.delete(sent);
          on.lost(peer);
        },
      });
      return {
        send: (to, requestId, body) => {
          node.air.add(`${to} ${requestId}`);
          links.send(to, requestId, body);
        },
        close: () => links.close(),
      };
    },
  });
  node.listener = await listenLinks({
    host: "127.0.0.1",
    port: node.port,
    identity: node.identity,
    allow: () => new Map(peers.map((peer) => [toHex(peer.key), peer.id])),
    onRequest: async (from, body) => {
      const sender = peers.find(({ id }) => id === from);
      if (body.kind === "storage.ready") sender?.air.delete(`${node.id} ${body.lastSeq}`); // a ping's number is its request id
      return (await driver.request(from, body)) as Answer;
    },
  });
  Object.assign(node, { port: node.listener.port, disk, driver, record, ended: null });
  void driver.ended.then((end) => {
    if (end.kind !== "closed" && node.driver === driver) node.ended = end.kind === "done" ? "done" : end.code;
  });
  driver.start();
}

/** As close to a kill as one process comes: the core hears and does nothing more; a write at the gate never happens. */
async function killNode(node: Node): Promise<void> {
  const { driver, disk, listener } = node;
  Object.assign(node, { driver: null, disk: null, listener: null });
  node.air.clear();
  if (driver === null) return;
  const closing = driver.close();
  node.faults.failNext = true;
  node.faults.open();
  await closing;
  node.faults.failNext = false;
  await Promise.all([listener?.close(), disk?.close()]);
}

function faulty(disk: Disk, faults: Faults): Disk {
  return {
    ...disk,
    snapshot: () => disk.snapshot(),
    async write(write) {
      await faults.gate;
      if (faults.fullNext) {
        faults.fullNext = false;
        throw new EngineError("STORE_FULL", "no space, as asked for");
      }
      if (faults.failNext) {
        faults.failNext = false;
        throw new EngineError("STORE_SYNC_FAILED", "fsync failed, as asked for");
      }
      faults.writing++;
      await disk.write(write).finally(() => faults.writing--);
    },
  };
}
