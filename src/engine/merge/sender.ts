/**
 * The sending side of a copy: brings one peer's order and entries up to a size, then asks it to verify or to publish
 * (merge.md sections 2 and 6). Four chunks in flight, each acknowledged; after a refused chunk or a silence it asks
 * the peer where it stands and goes on from there. It believes no size that the peer did not answer in this run.
 * Used by the backup step for its secondary and by the dist step for each frontend.
 */
import { equalBytes, toHex } from "../base/bytes.ts";
import type { Effect, Snapshot } from "../base/effects.ts";
import type { NodeId } from "../base/ids.ts";
import { invariant } from "../base/invariant.ts";
import { LogReader } from "../log/reader.ts";
import { type Answer, type AnswerOf, LIST_COUNT_MAX, type Request } from "../wire/messages.ts";
import type { MergeConfig } from "./config.ts";

/** Four chunks hide a round trip and a commit at the peer; more only fill its memory. */
export const CHUNKS_IN_FLIGHT_MAX = 4;
const CHUNK_BYTES_MAX = 1_024 * 1_024 - 65_537;
/** No progress for so long, and the peer is asked anew; three times, and it counts as silent. */
export const SILENCE_MS = 10_000;
const ASK_COUNT_MAX = 3;

export type SenderPhase = "asking" | "ordering" | "filling" | "proving" | "done" | "refused";
export const senderTransitions: Record<SenderPhase, readonly SenderPhase[]> = {
  asking: ["ordering", "proving", "done", "refused"],
  ordering: ["asking", "filling", "proving", "refused"],
  filling: ["asking", "ordering", "proving", "refused"],
  proving: ["asking", "done", "refused"],
  done: [],
  refused: [],
};

type InFlight = { readonly what: "where" | "order" | "entries" | "last"; readonly to: number };

export type Sender = {
  readonly peer: NodeId;
  /** Size this run brings the peer to. */
  readonly size: number;
  phase: SenderPhase;
  /** Up to where chunks were sent, and acknowledged. Invariant: acked ≤ sent ≤ size; entries ≤ order. */
  orderSent: number;
  orderAcked: number;
  entriesSent: number;
  entriesAcked: number;
  inFlight: Map<number, InFlight>;
  /** Asked again so often without progress in between. */
  askedCount: number;
  /** The peer's last word on where it stands. */
  at: AnswerOf<"copy.at"> | null;
  /** Answer to the last message (verified, published), once there. */
  result: Answer | null;
  failure: Failure | null;
};

export type Failure = { readonly code: string; readonly detail: string };

export type SendContext = {
  readonly config: MergeConfig;
  /** Owner of the process's request numbers. */
  nextRequestId(): number;
  /** The message that ends a copy: a verify or a publish. */
  last(sender: Sender): Request;
  /** Looks at where the peer stands before anything is sent; a failure ends the copy. */
  inspect(sender: Sender, at: AnswerOf<"copy.at">): Failure | null;
  /** Whether the peer has all of it already. */
  enough(sender: Sender, at: AnswerOf<"copy.at">): boolean;
};

type SendEffect = Effect<Request, never>;

export const newSender = (peer: NodeId, size: number): Sender => ({
  peer,
  size,
  phase: "asking",
  orderSent: 0,
  orderAcked: 0,
  entriesSent: 0,
  entriesAcked: 0,
  inFlight: new Map(),
  askedCount: 0,
  at: null,
  result: null,
  failure: null,
});

export const isOver = (sender: Sender): boolean => sender.phase === "done" || sender.phase === "refused";
export const timerOf = (sender: Sender): string => `peer.${sender.peer}`;

/** Asks where the peer stands: the start of a copy, and its resumption. */
export function ask(sender: Sender, ctx: SendContext): SendEffect[] {
  if (sender.askedCount >= ASK_COUNT_MAX) return fail(sender, { code: "UNAVAILABLE", detail: `${sender.peer} does not answer or makes no progress` });
  sender.askedCount++;
  enter(sender, "asking");
  sender.inFlight.clear();
  return [send(sender, ctx, { what: "where", to: 0 }, { kind: "copy.where", ...scope(ctx.config) }), watch(sender)];
}

/** An answer of the peer; late and repeated ones are marked and change nothing. */
export function onAnswer(sender: Sender, requestId: number, body: Answer, ctx: SendContext, snap: Snapshot): SendEffect[] {
  const asked = sender.inFlight.get(requestId);
  if (asked === undefined) return [{ kind: "mark", name: "copy.late-answer" }];
  sender.inFlight.delete(requestId);
  if (body.kind === "refused") return onRefused(sender, body, ctx);
  switch (asked.what) {
    case "where":
      return body.kind === "copy.at" ? onAt(sender, body, ctx, snap) : wrongKind(sender, body);
    case "order":
      if (body.kind !== "copy.ordered") return wrongKind(sender, body);
      sender.orderAcked = Math.max(sender.orderAcked, asked.to);
      return progress(sender, ctx, snap);
    case "entries":
      if (body.kind !== "copy.stored") return wrongKind(sender, body);
      sender.entriesAcked = Math.max(sender.entriesAcked, asked.to);
      return progress(sender, ctx, snap);
    case "last":
      sender.result = body;
      enter(sender, "done");
      return [{ kind: "disarm", timer: timerOf(sender) }];
  }
}

/** The link broke, or nothing came for SILENCE_MS. */
export function onSilence(sender: Sender, ctx: SendContext, why: "lost" | "timer"): SendEffect[] {
  if (isOver(sender)) return [];
  if (why === "lost" && sender.at === null) return fail(sender, { code: "UNAVAILABLE", detail: `${sender.peer} cannot be reached` });
  return [{ kind: "mark", name: "copy.asked-again" }, ...ask(sender, ctx)];
}

function onRefused(sender: Sender, body: AnswerOf<"refused">, ctx: SendContext): SendEffect[] {
  if (body.code === "LOG_ORDER_GAP" || body.code === "LOG_BUSY") return [{ kind: "mark", name: "copy.asked-again" }, ...ask(sender, ctx)];
  return fail(sender, { code: body.code, detail: `${sender.peer}: ${body.text}` });
}

function onAt(sender: Sender, at: AnswerOf<"copy.at">, ctx: SendContext, snap: Snapshot): SendEffect[] {
  if (at.verifiedSize > at.storedSize || at.storedSize > at.orderSize) {
    const sizes = `order ${at.orderSize}, stored ${at.storedSize}, verified ${at.verifiedSize}`;
    return fail(sender, { code: "FRAME_CORRUPT", detail: `${sender.peer} says ${sizes}, which cannot be` });
  }
  sender.at = at;
  const no = ctx.inspect(sender, at);
  if (no !== null) return fail(sender, no);
  if (ctx.enough(sender, at)) {
    enter(sender, "done");
    return [{ kind: "disarm", timer: timerOf(sender) }];
  }
  // what it ordered beyond its verified size may not be ours: that is sent again, and the peer compares
  sender.orderSent = Math.min(at.verifiedSize, sender.size);
  sender.orderAcked = sender.orderSent;
  sender.entriesSent = Math.min(at.storedSize, sender.size);
  sender.entriesAcked = sender.entriesSent;
  return pump(sender, ctx, snap);
}

function progress(sender: Sender, ctx: SendContext, snap: Snapshot): SendEffect[] {
  sender.askedCount = 0;
  return [watch(sender), ...pump(sender, ctx, snap)];
}

/** Fills the window: order first, then the entries behind it, and the last message when all is acknowledged. */
function pump(sender: Sender, ctx: SendContext, snap: Snapshot): SendEffect[] {
  const effects: SendEffect[] = [];
  const reader = new LogReader(snap, ctx.config.log);
  while (sender.inFlight.size < CHUNKS_IN_FLIGHT_MAX) {
    if (sender.entriesSent < sender.orderSent) {
      enter(sender, "filling");
      const { bundle, to } = reader.entries(sender.entriesSent, sender.orderSent, CHUNK_BYTES_MAX);
      effects.push(send(sender, ctx, { what: "entries", to }, { kind: "copy.entries", ...scope(ctx.config), start: sender.entriesSent, bundle }));
      sender.entriesSent = to;
    } else if (sender.orderSent < sender.size) {
      enter(sender, "ordering");
      const to = Math.min(sender.size, sender.orderSent + LIST_COUNT_MAX);
      effects.push(
        send(
          sender,
          ctx,
          { what: "order", to },
          { kind: "copy.order", ...scope(ctx.config), start: sender.orderSent, hashes: reader.orderHashes(sender.orderSent, to) },
        ),
      );
      sender.orderSent = to;
    } else break;
  }
  if (sender.inFlight.size > 0 || sender.entriesSent < sender.size) return effects;
  invariant(sender.entriesAcked === sender.size && sender.orderAcked === sender.size, `copy to ${sender.peer}: all was acknowledged before the last message`);
  enter(sender, "proving");
  return [...effects, send(sender, ctx, { what: "last", to: sender.size }, ctx.last(sender))];
}

function send(sender: Sender, ctx: SendContext, what: InFlight, body: Request): SendEffect {
  const requestId = ctx.nextRequestId();
  sender.inFlight.set(requestId, what);
  return { kind: "send", to: sender.peer, requestId, body };
}

const watch = (sender: Sender): SendEffect => ({ kind: "arm", timer: timerOf(sender), afterMs: SILENCE_MS });

export const scope = (config: MergeConfig) => ({ log: config.log, epoch: config.epoch });

function wrongKind(sender: Sender, body: Answer): SendEffect[] {
  return fail(sender, { code: "FRAME_CORRUPT", detail: `${sender.peer} answers ${body.kind} to another question` });
}

export function fail(sender: Sender, failure: Failure): SendEffect[] {
  sender.failure = failure;
  enter(sender, "refused");
  sender.inFlight.clear();
  return [
    { kind: "disarm", timer: timerOf(sender) },
    { kind: "mark", name: "copy.refused", text: `${failure.code}: ${failure.detail}` },
  ];
}

function enter(sender: Sender, next: SenderPhase): void {
  if (sender.phase === next) return;
  invariant(senderTransitions[sender.phase].includes(next), `copy to ${sender.peer}: ${next} may follow ${sender.phase}`);
  sender.phase = next;
}

/**
 * What a copy's own proven size says of us: null where its root is ours; else the failure. A peer that verified more
 * than we have means that this folder is old; another root means a fork.
 */
export function compare(peer: NodeId, size: number, root: Uint8Array, reader: LogReader, mySize: number): Failure | null {
  if (size > mySize) return { code: "MERGE_BEHIND_SECONDARY", detail: `${peer} has verified ${size}, this folder's order ends at ${mySize}` };
  if (size === 0) return null;
  const mine = reader.rootAt(size);
  if (equalBytes(mine, root)) return null;
  return { code: "LOG_ORDER_FORK", detail: `size ${size}: this folder's root is ${toHex(mine)}, ${peer}'s is ${toHex(root)}` };
}
