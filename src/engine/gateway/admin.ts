/**
 * The admin side of a node (architecture.md section 7): `GET /health` in the form of table.md section 1.2, `GET /status`,
 * `GET /metrics`. Pure: what is asked and what is known give the answer. A loopback address alone keeps no web page out
 * (DNS rebinding), so the Host header must name this machine; where a token is set, it must come along instead.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import { EngineError } from "../base/errors.ts";
import { invariant } from "../base/invariant.ts";
import { type HttpAnswer, type HttpRequest, jsonAnswer, methodRefused, splitTarget, textAnswer } from "./http-types.ts";

import type { AppliedStore } from "./kv-watch.ts";
import { answerKv, KV_PATH } from "./kvhttp.ts";
import { answerMembers, answerOperate, OPERATE_PATHS, type Operator } from "./operate.ts";
import { answerRows, answerTouched, type PinnedStore, ROWS_PATH, TOUCHED_PATH } from "./store-rows.ts";
import { answerTrace, TRACE_PATH, type Tracer } from "./trace.ts";

/** One step that a node still waits for; `etaMs` is null until it is known. */
export type Missing = {
  readonly task: "store" | "cluster";
  readonly step: string;
  readonly percent: number;
  readonly etaMs: number | null;
  readonly detail: string;
};
export type Health = { readonly ready: boolean; readonly missing: readonly Missing[] };

export type Metric = {
  readonly name: string;
  readonly type: "counter" | "gauge";
  readonly help: string;
  readonly samples: readonly { readonly labels?: Readonly<Record<string, string>>; readonly value: number }[];
};

/** What can be asked of the node's replica. */
export type AdminReplica = Operator & { readonly store: AppliedStore & PinnedStore; readonly trace: Tracer };

/** In a request: after so many milliseconds nobody waits for the answer any more. */
export const PATIENCE_HEADER = "x-cairn-timeout-ms";

export type AdminView = {
  readonly token: string | null;
  /** Host names under which the admin port may be asked, beside the loopback ones. */
  readonly hosts: readonly string[];
  health(): Health;
  status(): object;
  metrics(): readonly Metric[];
  /** Null while the node has no replica. */
  replica(): AdminReplica | null;
};

const LOOPBACK_HOSTS = ["localhost", "127.0.0.1", "[::1]"];
const RETRY_AFTER_S_MAX = 30;

export function answerAdmin(request: HttpRequest, view: AdminView): HttpAnswer | Promise<HttpAnswer> {
  checkCaller(request, view);
  const { path } = splitTarget(request.target);
  const patienceMs = patienceOf(request);
  const patient = (): AdminReplica => {
    const { ask, ...replica } = openReplica(view);
    return { ...replica, ask: (body) => ask(body, patienceMs) };
  };
  if (path.startsWith(KV_PATH)) {
    const { ask, store } = patient();
    return answerKv(request, ask, store);
  }
  if (OPERATE_PATHS.includes(path)) return answerOperate(request, patient);
  const [answer, reader] = [routes[path], readers[path]];
  if (answer === undefined && reader === undefined)
    throw new EngineError("NOT_FOUND", `${path}: there are ${[...Object.keys(routes), ...Object.keys(readers), KV_PATH, ...OPERATE_PATHS].join(", ")}`);
  if (request.method !== "GET" && request.method !== "HEAD") return methodRefused(request.method, "GET, HEAD");
  if (answer !== undefined) return answer(view);
  invariant(reader !== undefined, `${path} is a path of the admin port`);
  return reader(request, patient());
}

/** How long the caller waits: what is not decided by then is answered by what is known, while there is still somebody to hear it. */
function patienceOf(request: Pick<HttpRequest, "header">): number | undefined {
  const text = request.header(PATIENCE_HEADER);
  if (text === undefined) return undefined;
  if (!/^[1-9][0-9]{0,8}$/.test(text)) throw new EngineError("USAGE", `${PATIENCE_HEADER} is ${JSON.stringify(text)}: want whole milliseconds`);
  return Number(text);
}

function openReplica(view: AdminView): AdminReplica {
  const replica = view.replica();
  if (replica === null) throw new EngineError("NOT_READY", "the node's store is not open");
  return replica;
}

const routes: Readonly<Record<string, (view: AdminView) => HttpAnswer>> = {
  "/health": (view) => healthAnswer(view.health()),
  "/status": (view) => jsonAnswer(200, view.status()),
  "/metrics": (view) => textAnswer(200, "text/plain; version=0.0.4; charset=utf-8", metricsText(view.metrics())),
};

/** What is read of the replica itself. */
const readers: Readonly<Record<string, (request: HttpRequest, replica: AdminReplica) => HttpAnswer | Promise<HttpAnswer>>> = {
  [TRACE_PATH]: (request, { trace }) => answerTrace(request, trace),
  [ROWS_PATH]: (request, { store }) => answerRows(request, store),
  "/members": (_, { ask }) => answerMembers(ask),
  [TOUCHED_PATH]: (request, { store }) => answerTouched(request, store),
};

/** 200 only when ready; else 503 with what is missing, and when to ask again. */
export function healthAnswer(health: Health): HttpAnswer {
  if (health.ready) return jsonAnswer(200, health);
  const etaMs = Math.max(0, ...health.missing.map((each) => each.etaMs ?? 0));
  const seconds = Math.min(Math.max(Math.ceil(etaMs / 1_000), 1), RETRY_AFTER_S_MAX);
  return jsonAnswer(503, health, { "cache-control": "no-store", "retry-after": String(seconds) });
}

function checkCaller(request: Pick<HttpRequest, "header">, { token, hosts }: AdminView): void {
  if (token !== null) {
    if (!sameToken(request.header("authorization") ?? "", `Bearer ${token}`))
      throw new EngineError("NOT_ALLOWED", "the admin port wants `Authorization: Bearer` and the node's token");
    return;
  }
  const host = (request.header("host") ?? "").toLowerCase().replace(/:[0-9]{1,5}$/, "");
  if (!LOOPBACK_HOSTS.includes(host) && !hosts.includes(host))
    throw new EngineError("NOT_ALLOWED", `the Host header is ${JSON.stringify(host)}, which is not this machine`);
}

/** Compares digests, so that neither the token's length nor its first letters show in the time taken. */
function sameToken(given: string, wanted: string): boolean {
  const digest = (text: string): Uint8Array => createHash("sha256").update(text).digest();
  return timingSafeEqual(digest(given), digest(wanted));
}

/** Prometheus text format. */
export function metricsText(metrics: readonly Metric[]): string {
  const lines = metrics.flatMap(({ name, type, help, samples }) => [
    `# HELP ${name} ${help}`,
    `# TYPE ${name} ${type}`,
    ...samples.map(({ labels = {}, value }) => `${name}${labelText(labels)} ${value}`),
  ]);
  return `${lines.join("\n")}\n`;
}

function labelText(labels: Readonly<Record<string, string>>): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${value.replace(/[\\"\n]/g, (char) => (char === "\n" ? "\\n" : `\\${char}`))}"`);
  return pairs.length === 0 ? "" : `{${pairs.join(",")}}`;
}
