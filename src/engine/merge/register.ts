/**
 * The signer's guard register as a local record (merge.md section 2): the compare-and-swap row in which a head becomes
 * final, before Paxos holds it or on a lone node. What it refuses is the rule of `paxos/register.ts`: one rule for both
 * homes of the register. It never signs and never reads a log.
 */
import { equalBytes } from "../base/bytes.ts";
import type { Effect, Event, Snapshot } from "../base/effects.ts";
import { objection, type RegisterRow, registerSays } from "../paxos/register.ts";
import { type Answer, type Request, type RequestOf, refused } from "../wire/messages.ts";
import type { Head, MergeConfig } from "./config.ts";
import { rows } from "./records.ts";

export type RegisterState = {
  readonly config: MergeConfig;
  /** Requests not yet looked at, in order. Bounded by the one signer that asks and its repeats. */
  waiting: { readonly id: number; readonly from: string; readonly body: Request }[];
  /** The swap on its way to disk. */
  writing: { readonly ticket: number; readonly id: number; readonly row: RegisterRow } | null;
  lastTicket: number;
};

export type RegisterEffect = Effect<Request, Answer>;

export const initialRegister = (config: MergeConfig): RegisterState => ({ config, waiting: [], writing: null, lastTicket: 0 });

const WAITING_COUNT_MAX = 64;

export function stepRegister(state: RegisterState, event: Event<Request, Answer>, snap: Snapshot): RegisterEffect[] {
  switch (event.kind) {
    case "request":
      if (state.waiting.length >= WAITING_COUNT_MAX) return [{ kind: "answer", id: event.id, body: { kind: "register.unknown" } }];
      state.waiting.push(event);
      return pump(state, snap);
    case "stored":
      return onStored(state, event.ticket, snap);
    case "full": {
      const failed = state.writing;
      state.writing = null;
      const answer: RegisterEffect[] =
        failed === null ? [] : [{ kind: "answer", id: failed.id, body: refused("STORE_FULL", "the register's record could not be written: disk full") }];
      return [...answer, ...pump(state, snap)];
    }
    case "start":
    case "message":
    case "timer":
    case "lost":
      return [];
  }
}

function onStored(state: RegisterState, ticket: number, snap: Snapshot): RegisterEffect[] {
  if (state.writing?.ticket !== ticket) return [];
  state.writing = null;
  return pump(state, snap);
}

function pump(state: RegisterState, snap: Snapshot): RegisterEffect[] {
  const effects: RegisterEffect[] = [];
  while (state.writing === null) {
    const next = state.waiting.shift();
    if (next === undefined) break;
    const row = rows.register(snap, state.config.log) ?? { epoch: state.config.epoch, primary: state.config.primary, head: null, moved: 0 };
    if (next.body.kind === "register.read") effects.push({ kind: "answer", id: next.id, body: registerSays("register.is", row) });
    else if (next.body.kind === "register.swap") effects.push(...onSwap(state, next.id, next.from, next.body, row));
    else effects.push({ kind: "answer", id: next.id, body: refused("NOT_ALLOWED", `the register does not answer ${next.body.kind}`) });
  }
  return effects;
}

function onSwap(state: RegisterState, id: number, from: string, swap: RequestOf<"register.swap">, row: RegisterRow): RegisterEffect[] {
  const why = objection(from, swap, row);
  if (why !== null) {
    return [
      { kind: "mark", name: "register.conflict", text: `register refuses size ${swap.next.size}: ${why}` },
      { kind: "answer", id, body: registerSays("register.conflict", row) },
    ];
  }
  const next: RegisterRow = { ...row, head: swap.next };
  const ticket = ++state.lastTicket;
  state.writing = { ticket, id, row: next };
  return [
    { kind: "write", ticket, db: "local", batch: [rows.putRegister(state.config.log, next)] },
    { kind: "answer", id, body: registerSays("register.swapped", next) },
  ];
}

/** Whether two heads are the same, note and all. */
export const sameHead = (a: Head, b: Head): boolean => a.size === b.size && a.epoch === b.epoch && equalBytes(a.root, b.root) && equalBytes(a.note, b.note);
