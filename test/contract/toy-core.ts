/**
 * A core that does what it is told: a command carries the effects to give back, now and on later events. It records
 * every event with what its snapshot showed, so that a driver's duties can be read off the record. Messages are real
 * ones of the wire (`storage.ready`, `storage.noted`), so both drivers run it with their own codecs.
 */
import { fromUtf8, utf8 } from "../../src/engine/base/bytes.ts";
import type { Core, Effect, Event, Snapshot } from "../../src/engine/base/effects.ts";
import type { NodeId } from "../../src/engine/base/ids.ts";
import type { Answer, Request } from "../../src/engine/wire/messages.ts";

export type ToyReply = Answer | { readonly kind: "said"; readonly text: string };
export type ToyEffect = Effect<Request, ToyReply>;
/** `on` names later events, `stored 1`, `timer t`, `lost b`, and the effects to give back then. An answer's id 0 is the request at hand. */
export type ToyCommand = { readonly kind: "do"; readonly effects: readonly ToyEffect[]; readonly on?: Readonly<Record<string, readonly ToyEffect[]>> };
export type ToyCore = Core<Request | ToyCommand, Answer, Request, ToyReply>;

/** One event as the core saw it: its name, and what its snapshot held: `TOY_KEY` in two databases, and `TOY_FILE`. */
export type ToySeen = {
  readonly name: string;
  readonly event: Event<Request | ToyCommand, Answer>;
  readonly value: string | null;
  readonly replicated: string | null;
  readonly file: string | null;
};
export type ToyRecord = { readonly seen: ToySeen[]; reentered: boolean };

export const TOY_KEY = utf8("toy");
export const TOY_FILE = "merge/toy";
const LOG = new Uint8Array(8);
const NOTHING: readonly ToyEffect[] = [];

export const newRecord = (): ToyRecord => ({ seen: [], reentered: false });

export function toyCore(record: ToyRecord): ToyCore {
  const later = new Map<string, readonly ToyEffect[]>();
  let inside = false;
  return {
    name: "toy",
    step(event, snap) {
      if (inside) record.reentered = true;
      inside = true;
      const name = eventName(event);
      record.seen.push({ name, event, ...view(snap) });
      const effects = event.kind === "request" && event.body.kind === "do" ? obey(later, event.id, event.body) : (later.get(name) ?? NOTHING);
      inside = false;
      return effects;
    },
  };
}

function obey(later: Map<string, readonly ToyEffect[]>, id: number, command: ToyCommand): readonly ToyEffect[] {
  const bind = (effects: readonly ToyEffect[]): ToyEffect[] =>
    effects.map((effect) => (effect.kind === "answer" && effect.id === 0 ? { ...effect, id } : effect));
  for (const [name, effects] of Object.entries(command.on ?? {})) later.set(name, bind(effects));
  return bind(command.effects);
}

/** `start`, `request do`, `message storage.noted`, `timer t`, `stored 1`, `full 1`, `lost b`. */
function eventName(event: Event<Request | ToyCommand, Answer>): string {
  switch (event.kind) {
    case "start":
      return "start";
    case "request":
    case "message":
      return `${event.kind} ${event.body.kind}`;
    case "timer":
      return `timer ${event.timer}`;
    case "stored":
    case "full":
      return `${event.kind} ${event.ticket}`;
    case "lost":
      return `lost ${event.peer}`;
  }
}

function view(snap: Snapshot): { value: string | null; replicated: string | null; file: string | null } {
  const text = (bytes: Uint8Array | null | undefined): string | null => (bytes == null ? null : fromUtf8(bytes));
  return { value: text(snap.get("local", TOY_KEY)), replicated: text(snap.get("replicated", TOY_KEY)), file: text(snap.fileRead(TOY_FILE, 0, 1_000)) };
}

/** A request that carries a number, and the answer to it. */
export const ping = (to: NodeId, number: number): ToyEffect => ({
  kind: "send",
  to,
  requestId: number,
  body: { kind: "storage.ready", log: LOG, epoch: 1, lastSeq: number },
});
export const pong = (id: number): ToyEffect => ({ kind: "answer", id, body: { kind: "storage.noted" } });
export const say = (text: string): ToyEffect => ({ kind: "answer", id: 0, body: { kind: "said", text } });
export const arm = (timer: string, afterMs: number): ToyEffect => ({ kind: "arm", timer, afterMs });

/** A write of `TOY_KEY`, and of `TOY_FILE` where `file` is given. */
export const put = (ticket: number, value: string, file?: string): ToyEffect => ({
  kind: "write",
  ticket,
  db: "local",
  batch: [{ op: "put", key: TOY_KEY, value: utf8(value) }],
  ...(file === undefined ? {} : { files: [{ change: "append", file: TOY_FILE, at: 0, bytes: utf8(file) }] }),
});

/** Numbers of the pings that a core got, in order. */
export const pingsIn = (seen: readonly ToySeen[]): number[] =>
  seen.flatMap(({ event }) => (event.kind === "request" && event.body.kind === "storage.ready" ? [event.body.lastSeq] : []));
