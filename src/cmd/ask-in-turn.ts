/**
 * A question that any node of a cluster may answer: all are asked in turn, round by round, until one does it or the time is
 * over. Only a node that surely did nothing leaves it to the next; what broke off in the middle of a write is
 * PAXOS_OUTCOME_UNKNOWN, never a quiet second try. Not a command itself.
 */
import { EngineError, type ErrorCode } from "../engine/base/errors.ts";
import type { ClientCluster, ClientNode } from "./cluster.ts";

/** Between two rounds over all nodes: a new leader takes a second. */
const AGAIN_MS = 200;
/** What a connection says that was never made: nobody heard the request. */
const UNHEARD = ["ConnectionRefused", "ECONNREFUSED", "FailedToOpenSocket"];

export type InTurn<T> = {
  readonly timeoutMs: number;
  /** Codes with which a node says that it did nothing, and another one may. */
  readonly tryNext: readonly ErrorCode[];
  ask(node: ClientNode, leftMs: number): Promise<T>;
};

/** The answer of the first node that gives one. Throws what the last one said when the time is over. */
export async function askInTurn<T>({ nodes, name }: ClientCluster, { timeoutMs, tryNext, ask }: InTurn<T>): Promise<T> {
  const untilMs = performance.now() + timeoutMs;
  for (;;) {
    let last = new EngineError("UNAVAILABLE", `${name}: it has no nodes`);
    for (const node of nodes) {
      try {
        return await ask(node, Math.max(1, untilMs - performance.now()));
      } catch (error) {
        if (!(error instanceof EngineError) || !tryNext.includes(error.code)) throw error;
        last = error;
      }
    }
    if (performance.now() + AGAIN_MS > untilMs) throw last;
    await Bun.sleep(AGAIN_MS);
  }
}

/** A request that nobody heard was not done; of another one nobody can tell. */
export function brokenOff(at: string, method: string, cause: unknown): EngineError {
  if (method === "GET" && cause instanceof EngineError) return cause;
  const error = cause instanceof Error ? cause : new Error(String(cause));
  const said = `${at}: ${error.message}`;
  const code = "code" in error ? String(error.code) : "";
  if (method === "GET" || UNHEARD.includes(code)) return new EngineError(error.name === "TimeoutError" ? "TIMEOUT" : "UNAVAILABLE", said, { cause });
  return new EngineError("PAXOS_OUTCOME_UNKNOWN", said, { cause });
}
