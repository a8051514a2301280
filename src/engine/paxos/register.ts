/**
 * The signer's guard register (merge.md section 2), wherever it lives: its row, and the rule by which a swap is refused.
 * It refuses another epoch or primary, an `expect` that is not the current head, a smaller size, and an equal size with
 * another root. `merge/register.ts` keeps the row in `local`, the service `log` in the replicated store.
 */
import { equalBytes } from "../base/bytes.ts";
import { bytes, fixed, type Infer, nullable, struct, text, u32, u53 } from "../wire/codec.ts";
import type { Answer, RequestOf } from "../wire/messages.ts";
import { record } from "../wire/record.ts";

const headFields = { epoch: u53, size: u53, root: fixed(32), note: bytes(64 * 1_024), timeMs: u53 };
export const registerRecord = record("register", { epoch: u53, primary: text(32), head: nullable(struct(headFields)), moved: u32 });
export type RegisterRow = {
  readonly epoch: number;
  readonly primary: string;
  readonly head: Infer<typeof headFields> | null;
  /** 1 once it lives in Paxos. */
  readonly moved: number;
};

/** Why this swap may not happen, or null where it may. */
export function objection(from: string, swap: RequestOf<"register.swap">, row: RegisterRow): string | null {
  const { expect, next } = swap;
  if (row.moved === 1) return "the register has moved";
  if (swap.epoch !== row.epoch || next.epoch !== row.epoch) return `epoch ${swap.epoch}, the register's is ${row.epoch}`;
  if (from !== row.primary) return `${from} asks, the primary is ${row.primary}`;
  if (row.head === null) {
    if (expect !== null) return `expects size ${expect.size}, there is no head`;
    return next.size === 0 ? null : `first head of size ${next.size}, want 0`;
  }
  if (expect === null) return `expects no head, there is one of size ${row.head.size}`;
  if (expect.size !== row.head.size || !equalBytes(expect.root, row.head.root)) return `expects size ${expect.size}, the head's is ${row.head.size}`;
  if (next.size < row.head.size) return `size ${next.size} is below the head's ${row.head.size}`;
  if (next.size === row.head.size && !equalBytes(next.root, row.head.root)) return `another root for size ${next.size}`;
  return null;
}

export function registerSays(kind: "register.is" | "register.swapped" | "register.conflict", row: RegisterRow): Answer {
  return { kind, head: row.head, epoch: row.epoch, primary: row.primary };
}
