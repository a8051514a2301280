/**
 * Links between nodes (merge.md section 2): one sealed connection a direction of asking. The node that opened it sends
 * requests, the other answers, in any order; a frame is 8 bytes of request id and one message. A link is used until it
 * is lost, which is told once; whoever wants another opens one. Nothing is sent twice, and nothing waits without a bound:
 * requests in flight, bytes held and queued, connections of one peer and of all, connections that have not proven who they are.
 * Never retries, and never knows what a message means.
 */
import { connect, createServer, type Server, type Socket } from "node:net";
import { readU64be, toHex, u64be } from "../base/bytes.ts";
import { EngineError, type ErrorCode } from "../base/errors.ts";
import type { NodeId } from "../base/ids.ts";
import { FRAME_BYTES_MAX } from "../wire/frame.ts";
import { EPHEMERAL_SEED_BYTES, type HandshakeKeys, handshakeKeys, type Session, startClient, startServer } from "../wire/handshake.ts";
import { type Answer, answers, type Request, refused, requests } from "../wire/messages.ts";
import { Channel, type ChannelLimits } from "./channel.ts";

export type LinkIdentity = {
  readonly node: NodeId;
  readonly seed: Uint8Array;
  /** 32 bytes. */
  readonly cluster: Uint8Array;
};

export type LinkLimits = ChannelLimits & {
  /** From `send` to its answer; the link is lost with the first that takes longer. */
  readonly answerMs: number;
  /** Waiting requests of a link: beyond it the peer is too slow to be worth asking, and the link is lost. */
  readonly queueBytesMax: number;
  /** Unproven connections; a further one takes the place of the oldest that has not shown it knows the cluster. */
  readonly halfOpenCountMax: number;
  /** Proven connections of one peer; a further one replaces the oldest, which a peer that lost its power left behind. */
  readonly peerCountMax: number;
  /** Connections of all kinds; a further one is refused. */
  readonly connectionCountMax: number;
  /** Requests that one connection may have in work; at the bound its socket is not read. */
  readonly inFlightCountMax: number;
  /** Bytes of requests in work and of answers not yet taken, of one connection; at the bound its socket is not read. */
  readonly heldBytesMax: number;
};

export const LINK_LIMITS: LinkLimits = {
  handshakeMs: 5_000,
  answerMs: 10_000, // merge.md section 2
  stallMs: 30_000,
  frameBytesMax: FRAME_BYTES_MAX,
  queueBytesMax: 64 * 1_024 * 1_024, // four frames of the largest kind
  halfOpenCountMax: 64,
  peerCountMax: 16,
  connectionCountMax: 512,
  inFlightCountMax: 64,
  heldBytesMax: 2 * FRAME_BYTES_MAX,
};

/** A probe of a silent peer, so that a connection to a machine without power ends. */
const KEEPALIVE_MS = 15_000;
const REQUEST_ID_BYTES = 8;

/** Key pairs cost milliseconds to derive, and an identity is the same for all its links. */
const keysOf = new WeakMap<LinkIdentity, HandshakeKeys>();
function identityKeys(identity: LinkIdentity): HandshakeKeys {
  let keys = keysOf.get(identity);
  if (keys === undefined) {
    keys = handshakeKeys(identity.seed, identity.cluster);
    keysOf.set(identity, keys);
  }
  return keys;
}

const freshEphemeral = (): Uint8Array => crypto.getRandomValues(new Uint8Array(EPHEMERAL_SEED_BYTES));

const lengthOf = (pieces: readonly Uint8Array[]): number => pieces.reduce((sum, piece) => sum + piece.length, 0);

/** Request id and message of a frame's plaintext; the message is a view. */
function splitPayload(payload: Uint8Array): { requestId: number; message: Uint8Array } {
  const requestId = payload.length > REQUEST_ID_BYTES ? readU64be(payload) : null;
  if (requestId === null) throw new EngineError("FRAME_CORRUPT", `a payload of ${payload.length} bytes without a request id below 2^53`);
  return { requestId, message: payload.subarray(REQUEST_ID_BYTES) };
}

// The side that asks.

export type Link = {
  /** Best effort. `requestId` comes back with the answer; sending one again while it is unanswered renews its deadline. */
  send(requestId: number, body: Request): void;
  /** Bytes that wait to leave. */
  queuedBytes(): number;
  /** Hangs up; neither callback is called any more. */
  close(): void;
};

export type LinkOptions = {
  readonly to: NodeId;
  readonly host: string;
  readonly port: number;
  readonly identity: LinkIdentity;
  /** The Ed25519 key that `to` must prove. */
  readonly peerKey: Uint8Array;
  onAnswer(requestId: number, body: Answer): void;
  /** Once, never from within `send`. Requests not yet answered may or may not have been carried out. */
  onLost(reason: EngineError): void;
  readonly limits?: Partial<LinkLimits>;
};

/** Connects at once; what is sent before the handshake's end waits for it. */
export function openLink(options: LinkOptions): Link {
  return new OpenLink(options);
}

class OpenLink implements Link {
  private readonly options: LinkOptions;
  private readonly limits: LinkLimits;
  private readonly channel: Channel;
  /** Deadlines by request id, on the monotonic clock, in the order sent: the first is the next to pass. */
  private readonly unanswered = new Map<number, number>();
  private timer: NodeJS.Timeout | undefined;

  constructor(options: LinkOptions) {
    this.options = options;
    this.limits = { ...LINK_LIMITS, ...options.limits };
    const socket = connect({ host: options.host, port: options.port });
    socket.setKeepAlive(true, KEEPALIVE_MS);
    this.channel = new Channel({
      name: `${options.to} at ${options.host}:${options.port}`,
      socket,
      limits: this.limits,
      first: startClient(identityKeys(options.identity), options.peerKey, freshEphemeral()),
      allows: () => true, // the client's allow list is the one key that it asked for
      hooks: {
        opened: () => undefined,
        frame: (payload) => this.take(payload),
        drained: () => undefined,
        closed: (reason) => {
          clearTimeout(this.timer);
          options.onLost(reason ?? new EngineError("UNAVAILABLE", `${this.channel.name}: closed the link`));
        },
      },
    });
  }

  send(requestId: number, body: Request): void {
    if (this.channel.isOver) return;
    const pieces = requests.encodePieces(body);
    if (this.queuedBytes() + lengthOf(pieces) > this.limits.queueBytesMax) {
      const detail = `${this.channel.name}: ${this.queuedBytes()} bytes wait, at most ${this.limits.queueBytesMax}`;
      queueMicrotask(() => this.channel.fail(new EngineError("UNAVAILABLE", detail)));
      return;
    }
    this.unanswered.delete(requestId); // sent again: it moves to the end
    this.unanswered.set(requestId, performance.now() + this.limits.answerMs);
    this.channel.send(u64be(requestId), ...pieces);
    this.watch();
  }

  queuedBytes(): number {
    return this.channel.queuedBytes();
  }

  close(): void {
    clearTimeout(this.timer);
    this.unanswered.clear();
    this.channel.close();
  }

  private take(payload: Uint8Array): void {
    const answer = this.channel.attempt(() => {
      const { requestId, message } = splitPayload(payload);
      return { requestId, body: answers.decode(message) };
    });
    // an answer to nothing open: the second one of a request that was sent twice
    if (answer === null || !this.unanswered.delete(answer.requestId)) return;
    this.options.onAnswer(answer.requestId, answer.body);
  }

  /** One timer, for the oldest; answers do not touch it, it looks when it fires. */
  private watch(): void {
    const first = this.unanswered.entries().next().value;
    if (this.timer !== undefined || first === undefined) return;
    this.timer = setTimeout(() => this.onTimer(), Math.max(0, first[1] - performance.now()));
  }

  private onTimer(): void {
    this.timer = undefined;
    const first = this.unanswered.entries().next().value;
    if (first === undefined || first[1] > performance.now()) this.watch();
    else this.channel.fail(new EngineError("TIMEOUT", `${this.channel.name}: request ${first[0]} was not answered within ${this.limits.answerMs} ms`));
  }
}

// The side that answers.

export type ListenOptions = {
  readonly host: string;
  /** 0: any that is free. */
  readonly port: number;
  readonly identity: LinkIdentity;
  /** Who may ask, by public key in hex. Asked at each handshake and each request: a key taken out is cut off at once. */
  allow(): ReadonlyMap<string, NodeId>;
  /** An EngineError becomes a `refused`; any other error is ours and stops the node. */
  onRequest(from: NodeId, body: Request): Promise<Answer>;
  /** Why a connection was not taken, or ended without a goodbye. For logs. */
  onRefused?(reason: EngineError): void;
  readonly limits?: Partial<LinkLimits>;
};

export type ListenStats = {
  readonly openCount: number;
  readonly halfOpenCount: number;
  readonly inFlightCount: number;
  /** Since the start: unproven connections that made room, and ends without a goodbye by reason. */
  readonly evictedCount: number;
  readonly endedCount: Readonly<Partial<Record<ErrorCode, number>>>;
};

export type Listener = { readonly port: number; close(): Promise<void>; stats(): ListenStats };

export async function listenLinks(options: ListenOptions): Promise<Listener> {
  const connections = new Connections(options);
  const server = createServer((socket) => connections.accept(socket));
  const port = await listening(server, options);
  const close = (): Promise<void> =>
    new Promise((resolve) => {
      server.close(() => resolve());
      connections.close();
    });
  return { port, close, stats: () => connections.stats() };
}

function listening(server: Server, { host, port }: ListenOptions): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once("error", (cause) => reject(new EngineError("UNAVAILABLE", `cannot listen on ${host}:${port}: ${cause.message}`, { cause })));
    server.listen({ host, port }, () => {
      const address = server.address();
      resolve(address !== null && typeof address === "object" ? address.port : port);
    });
  });
}

type Connection = {
  readonly channel: Channel;
  /** Null until the handshake is done. */
  peer: { readonly node: NodeId; readonly keyHex: string } | null;
  inFlightCount: number;
  heldBytes: number;
};

/** All connections of a listener. Sets keep the order of arrival, so the first is the oldest. */
class Connections {
  private readonly options: ListenOptions;
  private readonly limits: LinkLimits;
  private readonly keys: HandshakeKeys;
  private readonly halfOpen = new Set<Connection>();
  private readonly open = new Set<Connection>();
  private evictedCount = 0;
  private readonly endedCount: Partial<Record<ErrorCode, number>> = {};

  constructor(options: ListenOptions) {
    this.options = options;
    this.limits = { ...LINK_LIMITS, ...options.limits };
    this.keys = identityKeys(options.identity);
  }

  accept(socket: Socket): void {
    const name = `${socket.remoteAddress}:${socket.remotePort}`;
    if (this.halfOpen.size >= this.limits.halfOpenCountMax) this.evict();
    if (this.halfOpen.size + this.open.size >= this.limits.connectionCountMax) {
      socket.destroy();
      this.count(new EngineError("UNAVAILABLE", `${name}: ${this.limits.connectionCountMax} connections are open already`));
      return;
    }
    socket.setKeepAlive(true, KEEPALIVE_MS);
    const channel: Channel = new Channel({
      name,
      socket,
      limits: this.limits,
      first: { send: new Uint8Array(0), next: startServer(this.keys, freshEphemeral()) },
      allows: (publicKey) => this.options.allow().has(toHex(publicKey)),
      hooks: {
        opened: (session) => this.opened(connection, session),
        frame: (payload) => this.take(connection, payload),
        drained: () => this.regulate(connection),
        closed: (reason) => {
          this.forget(connection);
          if (reason !== null) this.count(reason);
        },
      },
    });
    const connection: Connection = { channel, peer: null, inFlightCount: 0, heldBytes: 0 };
    this.halfOpen.add(connection);
  }

  stats(): ListenStats {
    let inFlightCount = 0;
    for (const each of this.open) inFlightCount += each.inFlightCount;
    return { openCount: this.open.size, halfOpenCount: this.halfOpen.size, inFlightCount, evictedCount: this.evictedCount, endedCount: { ...this.endedCount } };
  }

  close(): void {
    for (const each of [...this.halfOpen, ...this.open]) {
      this.forget(each);
      each.channel.close();
    }
  }

  private forget(connection: Connection): void {
    this.halfOpen.delete(connection);
    this.open.delete(connection);
  }

  private count(reason: EngineError): void {
    this.endedCount[reason.code] = (this.endedCount[reason.code] ?? 0) + 1;
    this.options.onRefused?.(reason);
  }

  /** Strangers first: to be more than one a flood needs the cluster id. */
  private evict(): void {
    let victim: Connection | undefined;
    for (const each of this.halfOpen) {
      victim ??= each;
      if (!each.channel.isStranger) continue;
      victim = each;
      break;
    }
    if (victim === undefined) return;
    this.evictedCount += 1;
    this.forget(victim);
    victim.channel.close();
  }

  private opened(connection: Connection, session: Session): void {
    const keyHex = toHex(session.peerKey);
    const node = this.options.allow().get(keyHex);
    if (node === undefined) {
      this.cutOff(connection, keyHex);
      return;
    }
    connection.peer = { node, keyHex };
    const others = [...this.open].filter((each) => each.peer?.keyHex === keyHex);
    if (others.length >= this.limits.peerCountMax)
      others[0]?.channel.fail(new EngineError("UNAVAILABLE", `${others[0].channel.name}: replaced, ${node} has ${others.length} connections already`));
    this.halfOpen.delete(connection);
    this.open.add(connection);
  }

  private take(connection: Connection, payload: Uint8Array): void {
    const { channel, peer } = connection;
    const request = channel.attempt(() => {
      const { requestId, message } = splitPayload(payload);
      return { requestId, body: requests.decode(message) };
    });
    if (request === null || peer === null) return;
    if (this.options.allow().get(peer.keyHex) !== peer.node) {
      this.cutOff(connection, peer.keyHex);
      return;
    }
    connection.inFlightCount += 1;
    connection.heldBytes += payload.length;
    this.regulate(connection);
    void this.serve(connection, peer.node, request.requestId, request.body).then(() => {
      connection.inFlightCount -= 1;
      connection.heldBytes -= payload.length;
      this.regulate(connection);
    });
  }

  private async serve(connection: Connection, from: NodeId, requestId: number, body: Request): Promise<void> {
    let answer: Answer;
    try {
      answer = await this.options.onRequest(from, body);
    } catch (error) {
      if (!(error instanceof EngineError)) throw error;
      answer = refused(error.code, error.message, { retry: error.row.retryable });
    }
    connection.channel.send(u64be(requestId), ...answers.encodePieces(answer));
  }

  /** Reads on only while the peer's requests and the answers it has not taken are within bounds. */
  private regulate({ channel, inFlightCount, heldBytes }: Connection): void {
    channel.setReading(inFlightCount < this.limits.inFlightCountMax && heldBytes + channel.queuedBytes() < this.limits.heldBytesMax);
  }

  private cutOff(connection: Connection, keyHex: string): void {
    connection.channel.fail(new EngineError("PEER_UNKNOWN", `${connection.channel.name}: the key ${keyHex} is no longer in the allow list`));
  }
}
