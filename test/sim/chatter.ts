/**
 * A small protocol to exercise the simulator: every node counts, tells its peers the count by timer, keeps theirs on
 * disk before it acknowledges, and answers a client with what it has. Its promise, for checkers: an acknowledged count
 * is on the disk of the node that acknowledged it.
 */
import { fromUtf8, u64be, utf8 } from "../../src/engine/base/bytes.ts";
import type { Core, Effect, Event, Snapshot } from "../../src/engine/base/effects.ts";
import { type NodeId, nodeId } from "../../src/engine/base/ids.ts";
import { DiskSnapshot } from "../../src/engine/sim/disk.ts";
import { World, type WorldOptions } from "../../src/engine/sim/world.ts";
import { type Answer, answers, type Request, requests } from "../../src/engine/wire/messages.ts";

export type ChatterIn = Request | { readonly kind: "count" };
export type ChatterReply = Answer | { readonly kind: "counted"; readonly text: string };
type ChatterEffect = Effect<Request, ChatterReply>;
export type ChatterWorld = World<ChatterIn, Answer, Request, ChatterReply>;

const EVERY_MS = 10;
const LOG = new Uint8Array(8);
const countKey = (peer: string): Uint8Array => utf8(`count/${peer}`);

function chatterCore(self: NodeId, peers: readonly NodeId[]): Core<ChatterIn, Answer, Request, ChatterReply> {
  let round = 0;
  let ticket = 0;
  let acknowledged = 0;
  const keep = (peer: NodeId, count: number): ChatterEffect => ({
    kind: "write",
    ticket: ++ticket,
    db: "local",
    batch: [{ op: "put", key: countKey(peer), value: utf8(String(count)) }],
    files: [{ change: "replace", file: `chat/${peer}`, bytes: u64be(count) }],
  });
  const tell = (): ChatterEffect[] => {
    round++;
    const pings = peers.map(
      (to): ChatterEffect => ({ kind: "send", to, requestId: round, body: { kind: "storage.ready", log: LOG, epoch: 1, lastSeq: round } }),
    );
    return [...pings, { kind: "arm", timer: "tell", afterMs: EVERY_MS, jitterMs: 3 }];
  };
  const onRequest = (event: Event<ChatterIn, Answer> & { kind: "request" }, snap: Snapshot): ChatterEffect[] => {
    if (event.body.kind === "count")
      return [{ kind: "answer", id: event.id, body: { kind: "counted", text: peers.map((peer) => `${peer}=${keptCount(snap, peer)}`).join(" ") } }];
    if (event.body.kind !== "storage.ready") return [];
    if (event.body.lastSeq <= keptCount(snap, event.from)) return [{ kind: "mark", name: "chatter.late", text: `an old count of ${event.from}` }];
    return [keep(event.from, event.body.lastSeq), { kind: "answer", id: event.id, body: { kind: "storage.settled", settledSeq: event.body.lastSeq } }];
  };
  return {
    name: `chatter ${self}`,
    step(event, snap) {
      switch (event.kind) {
        case "start":
          round = keptCount(snap, self);
          return tell();
        case "timer":
          return [keep(self, round), ...tell()];
        case "request":
          return onRequest(event, snap);
        case "message":
          return ++acknowledged % 5 === 0 ? [{ kind: "mark", name: "chatter.fifth" }] : [];
        default:
          return [];
      }
    },
  };
}

function keptCount(snap: Pick<Snapshot, "get">, peer: NodeId): number {
  const value = snap.get("local", countKey(peer));
  return value === undefined ? 0 : Number(fromUtf8(value));
}

export function chatterWorld(names: readonly string[], options: Partial<WorldOptions<ChatterIn, Answer, Request, ChatterReply>> = {}): ChatterWorld {
  const world: ChatterWorld = new World({
    seed: 1,
    wire: {
      encodeRequest: (body) => requests.encode(body),
      decodeRequest: (raw) => requests.decode(raw),
      encodeAnswer: (body) => answers.encode(body as Answer),
      decodeAnswer: (raw) => answers.decode(raw),
    },
    periodic: (timer) => timer === "tell",
    ...options,
  });
  const ids = names.map(nodeId);
  for (const self of ids) {
    const peers = ids.filter((id) => id !== self);
    world.addNode(self, { daemon: () => chatterCore(self, peers) });
    world.startNode(self);
  }
  return world;
}

/** What a node has on disk of a peer. */
export const countOnDisk = (world: ChatterWorld, id: NodeId, peer: NodeId): number => keptCount(new DiskSnapshot(world.diskOf(id), id), peer);
