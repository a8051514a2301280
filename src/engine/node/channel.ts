/**
 * One socket of a link: runs the handshake, then seals what leaves and opens what comes. Both sides use it; `link.ts`
 * gives it meaning. Everything that waits has a bound: the handshake a total deadline (each byte of a slow peer resets nothing),
 * output a number of bytes, a reader that stands still a time. Frames of one turn leave in one write. An empty frame
 * is a goodbye, so that a cut connection cannot pass for a finished one. Never decides who is allowed, and never reconnects.
 */
import type { Socket } from "node:net";
import { concatBytes } from "../base/bytes.ts";
import { EngineError } from "../base/errors.ts";
import { FrameDecoder } from "../wire/frame.ts";
import { type Handshake, type HandshakeStep, type Session, takeHandshake, wantedBytes } from "../wire/handshake.ts";
import { Opener, Sealer } from "../wire/sealed.ts";

/** A write handed to the socket at once: large enough to be cheap, small enough that `drain` tells of progress. */
const WRITE_BYTES = 256 * 1_024;
/** How long a socket may take to send its goodbye before it is cut. */
const LINGER_MS = 1_000;

export type ChannelLimits = {
  /** From the socket's birth until both sides are proven. */
  readonly handshakeMs: number;
  /** Output waits, and the peer takes none of it for so long: it is gone. */
  readonly stallMs: number;
  readonly frameBytesMax: number;
};

export type ChannelHooks = {
  /** The handshake is done. */
  opened(session: Session): void;
  frame(payload: Uint8Array): void;
  /** Waiting output became less. */
  drained(): void;
  /** Once, after which no hook is called; null where the other side said goodbye. Not called after `close`. */
  closed(reason: EngineError | null): void;
};

export class Channel {
  /** Who is at the other end, for messages. */
  readonly name: string;
  private readonly socket: Socket;
  private readonly limits: ChannelLimits;
  private readonly hooks: ChannelHooks;
  private readonly allows: (publicKey: Uint8Array) => boolean;
  private handshake: Handshake | null;
  private message: Uint8Array = new Uint8Array(0);
  private sealer: Sealer | null = null;
  private opener: Opener | null = null;
  private readonly decoder: FrameDecoder;
  /** Plain payloads from before the handshake's end. */
  private early: (readonly Uint8Array[])[] = [];
  private outbox: Uint8Array[] = [];
  private waitingBytes = 0;
  private isFlushPlanned = false;
  private isBlocked = false;
  private isReading = true;
  private isPumping = false;
  private over = false;
  private deadline: NodeJS.Timeout;
  private stall: NodeJS.Timeout | undefined;

  constructor(options: {
    name: string;
    socket: Socket;
    limits: ChannelLimits;
    hooks: ChannelHooks;
    allows: (publicKey: Uint8Array) => boolean;
    first: HandshakeStep;
  }) {
    this.name = options.name;
    this.socket = options.socket;
    this.limits = options.limits;
    this.hooks = options.hooks;
    this.allows = options.allows;
    this.handshake = options.first.next;
    this.decoder = new FrameDecoder(options.limits.frameBytesMax);
    this.deadline = setTimeout(
      () => this.fail(new EngineError("TIMEOUT", `${this.name}: no handshake within ${this.limits.handshakeMs} ms`)),
      this.limits.handshakeMs,
    );
    this.listen();
    if (options.first.send.length > 0) this.socket.write(options.first.send);
  }

  /** Whether the other side has shown yet that it knows the cluster. */
  get isStranger(): boolean {
    return this.handshake?.phase === "awaiting-client-hello";
  }

  /** Closed or failed: nothing is sent any more. */
  get isOver(): boolean {
    return this.over;
  }

  /** Bytes that wait here or in the socket. */
  queuedBytes(): number {
    return this.waitingBytes + this.socket.writableLength;
  }

  /** Queues one frame made of the parts; before the handshake's end it is kept in the plain. */
  send(...parts: readonly Uint8Array[]): void {
    if (this.over) return;
    if (this.sealer === null) {
      this.early.push(parts);
      for (const part of parts) this.waitingBytes += part.length;
      return;
    }
    for (const piece of this.sealer.sealPieces(parts)) {
      this.outbox.push(piece);
      this.waitingBytes += piece.length;
    }
    this.planFlush();
  }

  /** Off: no more frames are handed out, and the socket is not read. */
  setReading(on: boolean): void {
    if (this.over || this.isReading === on) return;
    this.isReading = on;
    if (!on) this.socket.pause();
    else {
      this.socket.resume();
      this.pump();
    }
  }

  /** Says goodbye behind what is queued, and hangs up. No hook is called any more. */
  close(): void {
    if (this.over) return;
    if (this.sealer === null) {
      this.finish();
      return;
    }
    this.send();
    this.over = true;
    this.stopTimers();
    this.isBlocked = false;
    const rest = this.outbox;
    this.outbox = [];
    this.socket.end(concatBytes(...rest));
    this.socket.resume(); // what still comes is read and dropped, so that the other side's end is seen
    const linger = setTimeout(() => this.socket.destroy(), LINGER_MS);
    this.socket.once("close", () => clearTimeout(linger));
  }

  /** Hangs up at once. */
  fail(reason: EngineError | null): void {
    if (this.over) return;
    this.finish();
    this.hooks.closed(reason);
  }

  private finish(): void {
    this.over = true;
    this.stopTimers();
    this.early = [];
    this.outbox = [];
    this.waitingBytes = 0;
    this.socket.destroy();
  }

  private stopTimers(): void {
    clearTimeout(this.deadline);
    clearTimeout(this.stall);
  }

  private listen(): void {
    const { socket } = this;
    socket.setNoDelay(true);
    socket.on("data", (chunk: Uint8Array) => this.take(chunk));
    socket.on("drain", () => this.onDrain());
    socket.on("error", (cause: Error) => this.fail(new EngineError("UNAVAILABLE", `${this.name}: ${cause.message}`, { cause })));
    socket.on("end", () => this.fail(this.cutOff()));
    socket.on("close", () => this.fail(this.cutOff()));
  }

  /** A handshake that the other side breaks off says nothing of its reason: neither side tells a stranger. */
  private cutOff(): EngineError {
    if (this.handshake === null)
      return new EngineError("UNAVAILABLE", `${this.name}: the connection broke off${this.decoder.isInside ? " inside a frame" : ""}`);
    return new EngineError("HANDSHAKE_FAILED", `${this.name}: broke off in phase ${this.handshake.phase}: another cluster, another key, or not allowed`);
  }

  private take(chunk: Uint8Array): void {
    let rest = chunk;
    while (rest.length > 0 && this.handshake !== null && !this.over) rest = this.shake(this.handshake, rest);
    if (this.over) return;
    this.decoder.push(rest);
    this.pump();
  }

  /** Takes what the phase's one message still lacks; returns what is left of the chunk. */
  private shake(state: Handshake, chunk: Uint8Array): Uint8Array {
    const lacking = wantedBytes(state) - this.message.length;
    this.message = concatBytes(this.message, chunk.subarray(0, lacking));
    if (this.message.length === wantedBytes(state)) {
      const message = this.message;
      this.message = new Uint8Array(0);
      const step = this.attempt(() => takeHandshake(state, message, this.allows));
      if (step !== null) this.advance(step);
    }
    return chunk.subarray(lacking);
  }

  private advance(step: HandshakeStep): void {
    if (step.send.length > 0) this.socket.write(step.send);
    this.handshake = step.next;
    if (step.next.phase !== "done") return;
    const { session } = step.next;
    this.handshake = null;
    clearTimeout(this.deadline);
    this.sealer = new Sealer(session.sendKey);
    this.opener = new Opener(session.receiveKey);
    const early = this.early;
    this.early = [];
    this.waitingBytes = 0;
    for (const parts of early) this.send(...parts);
    this.hooks.opened(session);
  }

  /** Hands out frames until there is none, or nobody wants one. */
  private pump(): void {
    if (this.isPumping) return;
    this.isPumping = true;
    while (this.isReading && !this.over) {
      const payload = this.attempt(this.nextPayload);
      if (payload === null) break;
      if (payload.length > 0) this.hooks.frame(payload);
      else this.fail(null);
    }
    this.isPumping = false;
  }

  private readonly nextPayload = (): Uint8Array | null => {
    const frame = this.decoder.next();
    return frame === null || this.opener === null ? null : this.opener.open(frame);
  };

  /** What the other side got wrong ends the channel; anything else is ours, and goes up. */
  attempt<T>(work: () => T): T | null {
    try {
      return work();
    } catch (error) {
      if (!(error instanceof EngineError)) throw error;
      this.fail(new EngineError(error.code, `${this.name}: ${error.message}`, { cause: error }));
      return null;
    }
  }

  private planFlush(): void {
    if (this.isFlushPlanned || this.isBlocked) return;
    this.isFlushPlanned = true;
    queueMicrotask(() => {
      this.isFlushPlanned = false;
      this.flush();
    });
  }

  private flush(): void {
    while (!this.over && !this.isBlocked && this.outbox.length > 0) {
      const piece = this.takePiece();
      this.waitingBytes -= piece.length;
      this.isBlocked = !this.socket.write(piece);
    }
    if (this.isBlocked && this.stall === undefined) this.watchStall();
  }

  /** The small frames in front as one piece, or the next cut of a large one. */
  private takePiece(): Uint8Array {
    let count = 0;
    let bytes = 0;
    for (const frame of this.outbox) {
      if (bytes + frame.length > WRITE_BYTES) break;
      bytes += frame.length;
      count += 1;
    }
    if (count > 0) {
      const front = this.outbox.splice(0, count);
      return count === 1 ? (front[0] as Uint8Array) : concatBytes(...front);
    }
    const large = this.outbox[0] as Uint8Array;
    this.outbox[0] = large.subarray(WRITE_BYTES);
    return large.subarray(0, WRITE_BYTES);
  }

  private onDrain(): void {
    clearTimeout(this.stall);
    this.stall = undefined;
    this.isBlocked = false;
    this.flush();
    if (!this.over) this.hooks.drained();
  }

  private watchStall(): void {
    this.stall = setTimeout(
      () => this.fail(new EngineError("TIMEOUT", `${this.name}: took nothing of ${this.queuedBytes()} waiting bytes for ${this.limits.stallMs} ms`)),
      this.limits.stallMs,
    );
  }
}
