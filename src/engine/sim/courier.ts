/**
 * Frames under way in a simulated world: bodies become bytes, meet their fate in the network and arrive as bodies; and
 * what a process learns of links that are gone (duty 7). Never steps a core: the host does, when a frame arrives.
 */
import { type NodeId, REGISTER } from "../base/ids.ts";
import { unreachable } from "../base/invariant.ts";
import type { Prng } from "../base/prng.ts";
import type { Agenda, Entry } from "./agenda.ts";
import type { Frame, Network } from "./network.ts";
import { type Caller, DAEMON, type Item, kindOf, type Process } from "./process.ts";
import type { Trace } from "./trace.ts";
import type { WireCodec } from "./world.ts";

/** What a courier needs of its world. */
export type CourierHost<In, Ans, Send, Reply> = {
  readonly agenda: Agenda<Item<In, Ans>>;
  readonly network: Network;
  readonly trace: Trace;
  readonly dice: Prng;
  alive(id: number): Process<In, Ans, Send, Reply> | null;
  running(id: NodeId, name: string): Process<In, Ans, Send, Reply> | null;
};

export type CourierOptions<In, Ans, Send, Reply> = {
  readonly wire: WireCodec<In, Ans, Send, Reply>;
  /** Until a sender learns that a link is cut. */
  readonly lostAfterMs: number;
  readonly describe: (body: unknown) => string;
};

/** Until a sender learns that nobody listens at the other end, or that its link was dropped. */
const REFUSED_AFTER_MS = 1;

export class Courier<In, Ans, Send, Reply> {
  private readonly host: CourierHost<In, Ans, Send, Reply>;
  private readonly options: CourierOptions<In, Ans, Send, Reply>;
  /** By frame number, in the order they were launched. */
  private readonly flying = new Map<number, Entry<Item<In, Ans>>>();
  private lastFrameId = 0;

  constructor(host: CourierHost<In, Ans, Send, Reply>, options: CourierOptions<In, Ans, Send, Reply>) {
    this.host = host;
    this.options = options;
  }

  sendRequest(client: Process<In, Ans, Send, Reply>, server: NodeId, requestId: number, body: Send): void {
    client.links.add(server);
    const bytes = this.options.wire.encodeRequest(body).slice();
    const [from, to] = [client.node, server];
    this.transmit(client, { id: ++this.lastFrameId, client: client.id, server, toward: "server", from, to, requestId, kind: kindOf(body), bytes });
  }

  sendAnswer({ client: id, server, requestId }: Caller<Reply> & { kind: "process" }, body: Reply): void {
    const client = this.host.alive(id);
    if (client === null) return;
    const bytes = this.options.wire.encodeAnswer(body).slice();
    const [from, to] = [server, client.node];
    this.transmit(client, { id: ++this.lastFrameId, client: id, server, toward: "client", from, to, requestId, kind: kindOf(body), bytes });
  }

  /** Frames on their way, oldest first; then those that are held. */
  frames(): { frame: Frame; atMs: number | null }[] {
    const flying = [...this.flying.values()].flatMap(({ what, atMs }) => (what.kind === "frame" ? [{ frame: what.frame, atMs }] : []));
    return [...flying, ...this.host.network.held.map((frame) => ({ frame, atMs: null }))];
  }

  /** Takes a frame off its way, or out of those that are held. */
  pluck(frame: Frame): void {
    const entry = this.flying.get(frame.id);
    if (entry !== undefined) this.host.agenda.cancel(entry);
    this.flying.delete(frame.id);
    this.host.network.unhold(frame);
  }

  /** Puts a frame on its way, past every rule and fault. */
  launch(frame: Frame, afterMs: number): void {
    this.flying.set(frame.id, this.host.agenda.push(afterMs, { kind: "frame", frame }));
  }

  /** A copy of a frame, as a faulty link makes them. */
  copyOf(frame: Frame): Frame {
    return { ...frame, id: ++this.lastFrameId };
  }

  /** Ends the way of a frame; the process it is for, or null where there is nobody: then its sender learns of it. */
  land(frame: Frame): Process<In, Ans, Send, Reply> | null {
    this.flying.delete(frame.id);
    const target = this.targetOf(frame);
    if (target === null) {
      if (this.host.trace.recording) this.host.trace.say(`${this.lineOf(frame)}  (nobody there)`);
      if (frame.toward === "server") this.loseLink(this.host.alive(frame.client), frame.server, REFUSED_AFTER_MS);
      return null;
    }
    this.host.network.remember(frame);
    this.host.trace.foldBytes(frame.bytes);
    if (this.host.trace.recording) this.host.trace.say(this.lineOf(frame));
    return target;
  }

  decodeRequest = (frame: Frame): In => this.options.wire.decodeRequest(frame.bytes);
  decodeAnswer = (frame: Frame): Ans => this.options.wire.decodeAnswer(frame.bytes);

  /** `b → a  kind field=value …` */
  lineOf(frame: Frame): string {
    return `${frame.from} → ${frame.to}  ${this.options.describe(frame.toward === "server" ? this.decodeRequest(frame) : this.decodeAnswer(frame))}`;
  }

  /** The process that a frame reaches now. Before Paxos each node keeps its own register (merge.md section 2). */
  targetOf(frame: Frame): Process<In, Ans, Send, Reply> | null {
    if (frame.toward === "client") return this.host.alive(frame.client);
    return frame.server === REGISTER ? this.host.running(frame.from, REGISTER) : this.host.running(frame.server, DAEMON);
  }

  /** Every process that had a link to this one, which has just ended, is told. */
  loseLinksTo(server: Process<In, Ans, Send, Reply>, clients: Iterable<Process<In, Ans, Send, Reply>>): void {
    const address = server.name === REGISTER ? REGISTER : server.name === DAEMON ? server.node : null;
    if (address === null) return;
    for (const client of clients) if (address !== REGISTER || client.node === server.node) this.loseLink(client, address, REFUSED_AFTER_MS);
  }

  private loseLink(client: Process<In, Ans, Send, Reply> | null, peer: NodeId, afterMs: number): void {
    if (client === null || !client.links.delete(peer)) return;
    this.host.agenda.push(afterMs, { kind: "lost", process: client.id, peer });
  }

  private transmit(client: Process<In, Ans, Send, Reply>, frame: Frame): void {
    const fate = this.host.network.route(frame, this.host.dice);
    if (fate.fate !== "arrives" && this.host.trace.recording) this.host.trace.say(`${this.lineOf(frame)}  (${fate.fate})`);
    switch (fate.fate) {
      case "arrives":
        for (const [copy, delayMs] of fate.delaysMs.entries()) this.launch(copy === 0 ? frame : this.copyOf(frame), delayMs);
        return;
      case "held":
      case "lost":
        return;
      case "cut":
        this.loseLink(client, frame.server, this.options.lostAfterMs);
        return;
      case "corrupt":
        // The link is authenticated: a frame that was changed on its way ends it, with everything else that is on it.
        for (const { frame: other } of this.frames()) if (other.client === client.id && other.server === frame.server) this.pluck(other);
        this.loseLink(client, frame.server, REFUSED_AFTER_MS);
        return;
      default:
        unreachable(fate);
    }
  }
}
