/**
 * Following a live node over HTTP (sync.md, table B row 10): one JSON object a line for each message, change of phase,
 * commit, timer and mark of its replica that the filter lets through, until the client leaves. Read only.
 */
import { EngineError } from "../base/errors.ts";
import { type HttpAnswer, type HttpRequest, NO_STORE, splitTarget } from "./http-types.ts";
import { errorLine, jsonLine } from "./kv-line.ts";

export const TRACE_PATH = "/sync/trace";
export const TRACE_WHATS = ["message", "state", "commit", "timer", "mark"] as const;

export type TraceFilter = {
  /** Only these; empty: any. */
  readonly what: readonly string[];
  /** Only messages whose kind begins so. */
  readonly kind: string | null;
  readonly peer: string | null;
  /** Also what is Paxos's alone. */
  readonly isAll: boolean;
};

/** Its first line says that from here on everything is told. */
export type Tracer = { follow(filter: TraceFilter, signal: AbortSignal): AsyncGenerator<object> };

export async function answerTrace(request: HttpRequest, tracer: Tracer): Promise<HttpAnswer> {
  const { query } = splitTarget(request.target);
  const what = (query.get("what") ?? "").split(",").filter(Boolean);
  const unknown = what.find((each) => !TRACE_WHATS.some((known) => known === each));
  if (unknown !== undefined) throw new EngineError("USAGE", `what=${unknown}: there are ${TRACE_WHATS.join(", ")}`);
  const filter = { what, kind: query.get("kind"), peer: query.get("peer"), isAll: query.get("all") === "1" };
  const headers = { ...NO_STORE, "content-type": "application/jsonl" };
  return { status: 200, headers, body: new Uint8Array(0), stream: lines(tracer.follow(filter, request.signal)) };
}

async function* lines(told: AsyncIterable<object>): AsyncGenerator<Uint8Array> {
  try {
    for await (const line of told) yield jsonLine(line);
  } catch (error) {
    if (!(error instanceof EngineError)) throw error;
    yield errorLine(error);
  }
}
