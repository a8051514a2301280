/**
 * The KV endpoints of a cluster as a client uses them: its nodes are asked one after the other until one answers or the
 * time is over. A read may be asked anywhere again. A write goes to the next node only where it was surely not done;
 * whatever broke off in the middle is PAXOS_OUTCOME_UNKNOWN, never a quiet second try. Not a command itself.
 */
import { EngineError, type ErrorCode } from "../engine/base/errors.ts";
import { askInTurn, brokenOff, patienceFor } from "./ask-in-turn.ts";
import type { ClientCluster, ClientNode } from "./cluster.ts";
import { boundedBody, parseObject, toldError } from "./http-answer.ts";

export type KvReply = { readonly status: number; readonly body: Uint8Array; header(name: string): number | null };
export type KvAsk = {
  readonly method: "GET" | "PUT" | "DELETE";
  /** Behind `/kv/`, encoded. */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array<ArrayBuffer>;
};

/** A page of a scan is up to 4 MiB of keys and values, six characters a byte where JSON escapes each of them. */
const ANSWER_BYTES_MAX = 32 * 1_024 * 1_024;
/** Another node may do what this one could not. */
const TRY_NEXT: readonly ErrorCode[] = ["PAXOS_NO_QUORUM", "NOT_READY", "UNAVAILABLE", "LOG_BUSY"];

export const keyPath = (key: string): string => [...new TextEncoder().encode(key)].map((byte) => `%${byte.toString(16).padStart(2, "0")}`).join("");

/** An answer of 200, 204 or 404. Throws the node's error, UNAVAILABLE or TIMEOUT. */
export const askKv = (cluster: ClientCluster, ask: KvAsk, timeoutMs: number): Promise<KvReply> =>
  askInTurn(cluster, { timeoutMs, tryNext: TRY_NEXT, ask: (node, leftMs) => askOne(node, ask, leftMs) });

async function askOne(node: ClientNode, { method, path, headers = {}, body }: KvAsk, timeoutMs: number): Promise<KvReply> {
  const init = { method, headers: { ...headers, ...patienceFor(node, timeoutMs) }, signal: AbortSignal.timeout(timeoutMs), redirect: "error" } as const;
  const at = `${node.id} at ${node.admin}`;
  let answer: Response;
  let bytes: Uint8Array;
  try {
    answer = await fetch(`${node.admin}/kv/${path}`, body === undefined ? init : { ...init, body });
    bytes = await boundedBody(answer, at, ANSWER_BYTES_MAX);
  } catch (cause) {
    throw brokenOff(at, method, cause);
  }
  if (!answer.ok && !(answer.status === 404 && answer.headers.has("x-cairn-read-version")))
    throw toldError(parseObject(bytes)) ?? new EngineError("FAILED", `${at}: HTTP ${answer.status}`);
  const header = (name: string): number | null => {
    const text = answer.headers.get(name);
    return text === null || !/^[0-9]+$/.test(text) ? null : Number(text);
  };
  return { status: answer.status, body: bytes, header };
}
