/**
 * What every process of a node needs around its core: links to the members of the cluster. The register (merge.md
 * section 2) is a service of the replicated store, so whoever asks it asks the daemon of its own node.
 * Links outlive the run of a step: ids on the wire are never used twice, so an answer to an earlier run finds nobody.
 */
import { EngineError } from "../base/errors.ts";
import { type NodeId, REGISTER } from "../base/ids.ts";
import type { Answer, Request } from "../wire/messages.ts";
import type { NodeConfig } from "./config.ts";
import type { Connect, Transport } from "./driver.ts";
import { type LinkIdentity, openLink } from "./link.ts";
import { type OpenPeer, openPeers } from "./peers.ts";

type Hooks = Parameters<Connect<Answer, Request>>[0];

export const identityOf = (node: NodeConfig): LinkIdentity => ({ node: node.self.name, seed: node.seed, cluster: node.clusterId });

/** Links to the members, shared by the runs of this process. */
export class MemberLinks {
  private readonly peers: Transport<Request>;
  private readonly runs = new Set<Hooks>();
  private readonly self: NodeId;
  private lastWireId = 0;
  /** Who asked what is on its way, and under which id of its own; by id on the wire. */
  private readonly asked = new Map<number, { readonly run: Hooks; readonly to: NodeId; readonly requestId: number }>();

  constructor(node: NodeConfig, note: (peer: NodeId, reason: EngineError) => void) {
    this.self = node.self.name;
    const identity = identityOf(node);
    const open: OpenPeer = (to, on) => {
      const member = node.members.find(({ name }) => name === to);
      if (member === undefined) throw new EngineError("UNKNOWN_NODE", `${to} is none of ${node.members.map(({ name }) => name).join(", ")}`);
      return openLink({ to, ...member.peer, identity, peerKey: member.key, onAnswer: on.answer, onLost: on.lost });
    };
    this.peers = openPeers({ open, message: (_from, wireId, body) => this.answered(wireId, body), lost: (peer) => this.lost(peer), note });
  }

  /** The transport of one run. */
  readonly connect: Connect<Answer, Request> = (run) => {
    this.runs.add(run);
    return { send: (to, requestId, body) => this.send(run, to, requestId, body), close: () => this.forget(run) };
  };

  close(): void {
    this.runs.clear();
    this.asked.clear();
    this.peers.close();
  }

  private send(run: Hooks, to: NodeId, requestId: number, body: Request): void {
    if (!this.runs.has(run)) return;
    this.asked.set(++this.lastWireId, { run, to, requestId });
    this.peers.send(to === REGISTER ? this.self : to, this.lastWireId, body);
  }

  private answered(wireId: number, body: Answer): void {
    const asked = this.asked.get(wireId);
    if (asked === undefined) return;
    this.asked.delete(wireId);
    asked.run.message(asked.to, asked.requestId, body);
  }

  /** What was asked of it is not answered any more. */
  private lost(peer: NodeId): void {
    const lost = peer === this.self ? [peer, REGISTER] : [peer];
    for (const [wireId, asked] of this.asked) if (lost.includes(asked.to)) this.asked.delete(wireId);
    for (const run of [...this.runs]) for (const each of lost) run.lost(each);
  }

  /** What a run asked and nobody answered is dropped with it. */
  private forget(run: Hooks): void {
    this.runs.delete(run);
    for (const [wireId, asked] of this.asked) if (asked.run === run) this.asked.delete(wireId);
  }
}
