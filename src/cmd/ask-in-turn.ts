/**
 * A question that any node of a cluster may answer: all are asked in turn, round by round, until one does it or the time is
 * over. Only a node that surely did nothing leaves it to the next; what broke off in the middle of a write is
 * PAXOS_OUTCOME_UNKNOWN, never a quiet second try. So a node is asked only where it says something at all: one that hangs
 * would keep the question, and nobody could tell what became of it. Not a command itself.
 */
import { EngineError, type ErrorCode } from "../engine/base/errors.ts";
import { PATIENCE_HEADER } from "../engine/gateway/admin.ts";
import { askNode, type ClientCluster, type ClientNode, tokenOf } from "./cluster.ts";

/** Between two rounds over all nodes: a new leader takes a second. */
const AGAIN_MS = 200;
/** A running node answers in a few milliseconds, on a busy machine too. */
const SIGN_MS = 1_000;
/** A node looks at its deadlines four times a second; this leaves it time to say who is silent. */
const MARGIN_MS = 400;
/** With less left, another round would only end in a timeout. */
const ROUND_MS_MIN = 500;
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
  const leftMs = (): number => Math.max(1, untilMs - performance.now());
  for (;;) {
    const failed: EngineError[] = [];
    for (const node of nodes) {
      const isHeard = await givesSign(node, Math.min(SIGN_MS, leftMs()));
      if (isHeard !== null) failed.push(isHeard);
      else
        try {
          return await ask(node, leftMs());
        } catch (error) {
          if (!(error instanceof EngineError) || !tryNext.includes(error.code)) throw error;
          failed.push(error);
        }
    }
    if (leftMs() < AGAIN_MS + ROUND_MS_MIN) throw told(failed, name);
    await Bun.sleep(AGAIN_MS);
  }
}

/** Null where the node says anything, be it that it is not ready. */
async function givesSign(node: ClientNode, withinMs: number): Promise<EngineError | null> {
  try {
    await askNode(node, "/health", withinMs);
    return null;
  } catch (error) {
    if (!(error instanceof EngineError)) throw error;
    return error.code === "UNAVAILABLE" || error.code === "TIMEOUT" ? error : null;
  }
}

/** A node that says who is silent knows more than one that was not reached; else all of them are named. */
function told(failed: readonly EngineError[], name: string): EngineError {
  const knows = failed.findLast(({ code }) => code !== "UNAVAILABLE" && code !== "TIMEOUT");
  const last = failed.at(-1);
  if (knows !== undefined || last === undefined) return knows ?? new EngineError("UNAVAILABLE", `${name}: it has no nodes`);
  return new EngineError(last.code, failed.map(({ message }) => message).join("; "), { cause: last });
}

/** With a request that a node's replica answers: so much sooner than the client gives up that the answer arrives. */
export const patienceFor = (node: ClientNode, leftMs: number): Record<string, string> => ({
  ...tokenOf(node),
  [PATIENCE_HEADER]: String(Math.max(1, Math.floor(Math.max(leftMs - MARGIN_MS, leftMs / 2)))),
});

/** A request that nobody heard was not done; of another one nobody can tell. */
export function brokenOff(at: string, method: string, cause: unknown): EngineError {
  if (method === "GET" && cause instanceof EngineError) return cause;
  const error = cause instanceof Error ? cause : new Error(String(cause));
  const said = `${at}: ${error.message}`;
  const code = "code" in error ? String(error.code) : "";
  if (method === "GET" || UNHEARD.includes(code)) return new EngineError(error.name === "TimeoutError" ? "TIMEOUT" : "UNAVAILABLE", said, { cause });
  return new EngineError("PAXOS_OUTCOME_UNKNOWN", said, { cause });
}
