/**
 * How a core lists its effects: into the `out` of the step under way, in the order in which they are to happen (the
 * driver's duty 1). For cores whose steps pass such a turn along; others make their effects as values. What needs a
 * counter of the core, `send` and `write`, is the core's own.
 */
import type { Effect } from "./effects.ts";
import type { ErrorCode } from "./errors.ts";

/** The part of a turn that takes effects; a turn that sends takes these too. */
type Listing<Reply> = { readonly out: { readonly push: (effect: Effect<never, Reply>) => unknown } };

export function answer<Reply>({ out }: Listing<Reply>, id: number, body: Reply): void {
  out.push({ kind: "answer", id, body });
}

export function mark({ out }: Listing<never>, name: string, text?: string): void {
  out.push(markOf(name, text));
}

export const markOf = (name: string, text?: string): Effect<never, never> => (text === undefined ? { kind: "mark", name } : { kind: "mark", name, text });

export function arm({ out }: Listing<never>, timer: string, afterMs: number, jitterMs = 0): void {
  out.push({ kind: "arm", timer, afterMs, jitterMs });
}

export function disarm({ out }: Listing<never>, ...timers: readonly string[]): void {
  for (const timer of timers) out.push({ kind: "disarm", timer });
}

export function halt({ out }: Listing<never>, code: ErrorCode, detail: string): void {
  out.push({ kind: "halt", code, detail });
}
