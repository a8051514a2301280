/**
 * What is asked of running nodes beside reading them: a POST to an admin port, answered by one object. Where the node that
 * can do it is not known, all are asked in turn until one did it; one that surely did nothing leaves it to the next. Not a
 * command itself.
 */
import { EngineError } from "../engine/base/errors.ts";
import type { ClientCluster, ClientNode } from "./cluster.ts";
import { boundedBody, type Fields, parseObject, toldError } from "./http-answer.ts";
import { brokenOff } from "./kv-client.ts";

/** An answer says what was done, in a few fields. */
const ANSWER_BYTES_MAX = 64 * 1_024;

/** Another node may do what this one surely did not. */
const TRY_NEXT: readonly string[] = ["PAXOS_NO_QUORUM", "NOT_READY", "UNAVAILABLE"];
/** Between two rounds over all nodes. */
const AGAIN_MS = 200;

/** Throws the node's error; PAXOS_OUTCOME_UNKNOWN where it may have been done. */
export async function postNode(node: ClientNode, path: string, body: object, timeoutMs: number): Promise<Fields> {
  const token: Record<string, string> = node.token === null ? {} : { authorization: `Bearer ${node.token}` };
  const headers = { ...token, "content-type": "application/json" };
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
export async function postCluster({ nodes, name }: ClientCluster, path: string, body: object, timeoutMs: number): Promise<Fields> {
  const untilMs = performance.now() + timeoutMs;
  for (;;) {
    let last = new EngineError("UNAVAILABLE", `${name}: it has no nodes`);
    for (const node of nodes) {
      try {
        return await postNode(node, path, body, Math.max(1, untilMs - performance.now()));
      } catch (error) {
        if (!(error instanceof EngineError) || !TRY_NEXT.includes(error.code)) throw error;
        last = error;
      }
    }
    if (performance.now() + AGAIN_MS > untilMs) throw last;
    await Bun.sleep(AGAIN_MS);
  }
}
