/**
 * What is asked of running nodes beside reading them: a POST to an admin port, answered by one object. Where the node that
 * can do it is not known, all are asked in turn until one did it; one that surely did nothing leaves it to the next. Not a
 * command itself.
 */
import { EngineError, type ErrorCode } from "../engine/base/errors.ts";
import { askInTurn, brokenOff, patienceFor } from "./ask-in-turn.ts";
import type { ClientCluster, ClientNode } from "./cluster.ts";
import { boundedBody, type Fields, parseObject, toldError } from "./http-answer.ts";

/** An answer says what was done, in a few fields. */
const ANSWER_BYTES_MAX = 64 * 1_024;

/** Another node may do what this one surely did not. */
const TRY_NEXT: readonly ErrorCode[] = ["PAXOS_NO_QUORUM", "NOT_READY", "UNAVAILABLE"];

/** Throws the node's error; PAXOS_OUTCOME_UNKNOWN where it may have been done. */
export async function postNode(node: ClientNode, path: string, body: object, timeoutMs: number): Promise<Fields> {
  const headers = { ...patienceFor(node, timeoutMs), "content-type": "application/json" };
  const at = `${node.id} at ${node.admin}`;
  let answer: Response;
  let bytes: Uint8Array;
  try {
    answer = await fetch(`${node.admin}${path}`, {
      method: "POST",
      headers,
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(timeoutMs),
      redirect: "error",
    });
    bytes = await boundedBody(answer, at, ANSWER_BYTES_MAX);
  } catch (cause) {
    throw brokenOff(at, "POST", cause);
  }
  const said = parseObject(bytes);
  const told = toldError(said);
  if (told !== null) throw told;
  if (!answer.ok || said === null) throw new EngineError("FAILED", `${at}: HTTP ${answer.status}`);
  return said;
}

/** The first node that does it. */
export const postCluster = (cluster: ClientCluster, path: string, body: object, timeoutMs: number): Promise<Fields> =>
  askInTurn(cluster, { timeoutMs, tryNext: TRY_NEXT, ask: (node, leftMs) => postNode(node, path, body, leftMs) });
