/**
 * A log as a client reads and feeds it over HTTP (merge.md section 4): the addresses of a cluster's nodes, tried one after
 * the other, or one address of any C2SP log. What comes back is bounded and carries no trust: signatures, hashes and proofs
 * are checked by whoever asked. Not a command itself.
 */
import { existsSync } from "node:fs";
import { EngineError } from "../engine/base/errors.ts";
import { cosignerName } from "../engine/log/cosignature.ts";
import { parseVkey, type Vkey } from "../engine/log/note.ts";
import type { LogSource } from "../engine/log/verify.ts";
import type { MergeConfig } from "../engine/merge/config.ts";
import { type ClientCluster, logAddresses, resolveCluster } from "./cluster.ts";
import { boundedBody, parseObject, toldError } from "./http-answer.ts";
import type { OptionSpec } from "./spec.ts";

/** The largest answer: a bundle of 256 entries of 65,535 bytes. */
const READ_BYTES_MAX = 17 * 1_024 * 1_024;
const INFO_BYTES_MAX = 1_024 * 1_024;
/** One path that a frontend is too far behind for, or that its disk lost, another one may have. */
const TRY_NEXT: readonly string[] = ["UNAVAILABLE", "TIMEOUT", "NOT_READY", "LOG_UNINITIALISED", "NOT_FOUND", "LOG_RANGE", "STORE_CORRUPT", "FAILED"];
/** Of several refusals, what says more about the thing asked for than about the node. */
const SAYS_LITTLE: readonly string[] = ["UNAVAILABLE", "TIMEOUT", "NOT_READY", "LOG_UNINITIALISED"];

export const logOption = { name: "log", form: "string", value: "NAME", default: "main", means: "which log" } as const satisfies OptionSpec;

/** A cluster's log: where it is served, and the key it is verified with. */
export type LogAccess = {
  readonly cluster: ClientCluster;
  readonly addresses: readonly string[];
  readonly vkey: Vkey;
  readonly timeoutMs: number;
};
export type HttpReply = { readonly status: number; readonly body: Uint8Array };
type Asked = { readonly timeoutMs: number; readonly body?: Uint8Array; readonly bytesMax?: number; readonly signal?: AbortSignal };

type Addressed = { readonly cluster: string | undefined; readonly timeoutMs: number; readonly options: { readonly log: string } };

/** The log of the addressed cluster. Its key comes from the cluster's files where they are here, else it is what a node tells. */
export async function openLogAccess({ cluster: given, timeoutMs, options }: Addressed): Promise<LogAccess> {
  const cluster = await resolveCluster(given);
  mustBeMain(options.log, cluster.name);
  const addresses = await logAddresses(cluster, timeoutMs);
  const vkey = parseVkey(cluster.vkey ?? (await firstAnswer(addresses, (address) => toldVkey(address, timeoutMs))));
  return { cluster, addresses, vkey, timeoutMs };
}

export function mustBeMain(log: string, where: string): void {
  if (log !== "main") throw new EngineError("NOT_FOUND", `log ${log}: ${where} has main`);
}

async function toldVkey(address: string, timeoutMs: number): Promise<string> {
  const { body } = await askLog(`${address}/`, { timeoutMs, bytesMax: INFO_BYTES_MAX });
  const info = parseObject(body);
  if (typeof info?.["vkey"] !== "string") throw new EngineError("FRAME_CORRUPT", `${address}/ does not tell the log's vkey; give it with --vkey`);
  return info["vkey"];
}

/** Keys that the cluster's secondaries cosign with, from a node's folder where one is here: nobody is asked for a key that is to prove him right. */
export async function knownCosigners(cluster: ClientCluster | null): Promise<readonly Vkey[]> {
  const { loadNode } = await import("../engine/node/config.ts");
  for (const { dir } of cluster?.nodes ?? []) if (dir !== null && existsSync(dir)) return cosignersOf((await loadNode(dir)).merge);
  return [];
}

export const cosignersOf = ({ secondaries, cosignerKeys, origin }: Pick<MergeConfig, "secondaries" | "cosignerKeys" | "origin">): readonly Vkey[] =>
  secondaries.flatMap((name): Vkey[] => {
    const publicKey = cosignerKeys[name];
    return publicKey === undefined ? [] : [{ name: cosignerName(origin, name), type: 4, publicKey }];
  });

/** The answer of the first address that has one. Throws what says most about why there is none. */
export async function firstAnswer<T>(addresses: readonly string[], ask: (address: string) => Promise<T>): Promise<T> {
  const failures: EngineError[] = [];
  for (const address of addresses) {
    try {
      return await ask(address);
    } catch (error) {
      if (!(error instanceof EngineError) || !TRY_NEXT.includes(error.code)) throw error;
      failures.push(error);
    }
  }
  throw worstOf(failures);
}

/** One error for all addresses that failed. */
export function worstOf(failures: readonly EngineError[]): EngineError {
  const telling = failures.find(({ code }) => !SAYS_LITTLE.includes(code));
  if (telling !== undefined) return telling;
  const [first] = failures;
  if (first === undefined) return new EngineError("UNAVAILABLE", "no node of the cluster has a log address");
  return failures.length === 1 ? first : new EngineError(first.code, failures.map(({ message }) => message).join("; "), { cause: first });
}

/** The log as files: each path from the first frontend that has it; the one that answered last is asked first. */
export function clusterSource({ addresses, timeoutMs }: Pick<LogAccess, "addresses" | "timeoutMs">): LogSource {
  let order = addresses;
  return {
    async read(path) {
      const failures: EngineError[] = [];
      let isMissing = false;
      for (const address of order) {
        try {
          const bytes = await urlSource(address, timeoutMs).read(path);
          if (bytes !== null) {
            if (order[0] !== address) order = [address, ...addresses.filter((each) => each !== address)];
            return bytes;
          }
          isMissing = true;
        } catch (error) {
          if (!(error instanceof EngineError) || !TRY_NEXT.includes(error.code)) throw error;
          failures.push(error);
        }
      }
      if (isMissing && failures.every(({ code }) => SAYS_LITTLE.includes(code))) return null;
      throw worstOf(failures);
    },
  };
}

/** One address of a log, this project's or another's: null where it says 404. */
export function urlSource(address: string, timeoutMs: number): LogSource {
  const base = address.endsWith("/") ? address.slice(0, -1) : address;
  return {
    async read(path) {
      try {
        return (await askLog(`${base}/${path}`, { timeoutMs })).body;
      } catch (error) {
        if (error instanceof EngineError && error.code === "NOT_FOUND") return null;
        throw error;
      }
    },
  };
}

/** A GET, or a POST where there is a body. Throws UNAVAILABLE, TIMEOUT, NOT_FOUND, or the code that the node told. */
export async function askLog(url: string, { timeoutMs, body, bytesMax = READ_BYTES_MAX, signal }: Asked): Promise<HttpReply> {
  const within = AbortSignal.timeout(timeoutMs);
  const request = body === undefined ? {} : { method: "POST", body: new Uint8Array(body) };
  try {
    const answer = await fetch(url, { ...request, signal: signal === undefined ? within : AbortSignal.any([signal, within]), redirect: "error" });
    const reply = { status: answer.status, body: await boundedBody(answer, url, bytesMax) };
    if (!answer.ok) throw toldError(parseObject(reply.body), `${url}: `) ?? statusError(url, reply.status);
    return reply;
  } catch (cause) {
    if (cause instanceof EngineError || signal?.aborted === true) throw cause;
    if (cause instanceof Error && cause.name === "TimeoutError") throw new EngineError("TIMEOUT", `${url}: no answer within ${timeoutMs} ms`, { cause });
    throw new EngineError("UNAVAILABLE", `${url}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
}

/** Of another server than ours only the status is known. */
function statusError(url: string, status: number): EngineError {
  if (status === 404 || status === 410) return new EngineError("NOT_FOUND", `${url}: HTTP ${status}`);
  return new EngineError(status === 429 || status >= 500 ? "UNAVAILABLE" : "FAILED", `${url}: HTTP ${status}`);
}
