/**
 * The outgoing side of a process: at most one link to each peer, opened when there is something to send. After a loss
 * the next link waits, longer each time and with jitter, until the peer has answered once; what is sent meanwhile is
 * held, up to a bound. A loss is told once for each link that was tried. Best effort: nothing is sent twice here.
 */
import { EngineError } from "../base/errors.ts";
import type { NodeId } from "../base/ids.ts";
import type { Answer, Request } from "../wire/messages.ts";
import type { Transport } from "./driver.ts";

const BACKOFF_FIRST_MS = 50;
/** A peer that comes back is found again within this; one that stays away costs a connection attempt in as long. */
const BACKOFF_MAX_MS = 2_000;
/** Sends held for one peer while its link is waited for. More are dropped: the core asks again after its own time. */
const HELD_MAX = 64;

export type PeerLink = { send(requestId: number, body: Request): void; close(): void };
/** Opens a link to a peer; exactly one `lost` ends it, unless `close` did. Throws UNKNOWN_NODE. */
export type OpenPeer = (to: NodeId, on: { answer(requestId: number, body: Answer): void; lost(reason: EngineError): void }) => PeerLink;

type Peer = {
  link: PeerLink | null;
  failures: number;
  /** Set while the next link is waited for. */
  retry: ReturnType<typeof setTimeout> | null;
  held: { requestId: number; body: Request }[];
};

type PeersOptions = {
  readonly open: OpenPeer;
  readonly message: (from: NodeId, requestId: number, body: Answer) => void;
  readonly lost: (peer: NodeId) => void;
  /** For people: why a link was lost. */
  readonly note?: (peer: NodeId, reason: EngineError) => void;
};

export function openPeers(options: PeersOptions): Transport<Request> {
  return new Peers(options);
}

class Peers implements Transport<Request> {
  private readonly options: PeersOptions;
  private readonly peers = new Map<NodeId, Peer>();
  private closed = false;

  constructor(options: PeersOptions) {
    this.options = options;
  }

  send(to: NodeId, requestId: number, body: Request): void {
    if (this.closed) return;
    const peer = this.peers.get(to) ?? { link: null, failures: 0, retry: null, held: [] };
    this.peers.set(to, peer);
    if (peer.retry !== null) {
      if (peer.held.length < HELD_MAX) peer.held.push({ requestId, body });
      return;
    }
    peer.link ??= this.open(to, peer);
    peer.link?.send(requestId, body);
  }

  close(): void {
    this.closed = true;
    for (const peer of this.peers.values()) {
      if (peer.retry !== null) clearTimeout(peer.retry);
      peer.link?.close();
    }
    this.peers.clear();
  }

  private open(to: NodeId, peer: Peer): PeerLink | null {
    try {
      return this.options.open(to, {
        answer: (requestId, body) => {
          peer.failures = 0;
          if (!this.closed) this.options.message(to, requestId, body);
        },
        lost: (reason) => this.lost(to, peer, reason),
      });
    } catch (error) {
      if (!(error instanceof EngineError)) throw error;
      this.lost(to, peer, error);
      return null;
    }
  }

  private lost(to: NodeId, peer: Peer, reason: EngineError): void {
    if (this.closed || peer.retry !== null) return;
    peer.link = null;
    const waitMs = Math.min(BACKOFF_FIRST_MS * 2 ** peer.failures, BACKOFF_MAX_MS);
    peer.failures = Math.min(peer.failures + 1, 16);
    peer.retry = setTimeout(() => this.retry(to, peer), waitMs * (0.5 + Math.random()));
    this.options.note?.(to, reason);
    this.options.lost(to);
  }

  private retry(to: NodeId, peer: Peer): void {
    peer.retry = null;
    const { held } = peer;
    peer.held = [];
    for (const { requestId, body } of held) this.send(to, requestId, body);
  }
}
