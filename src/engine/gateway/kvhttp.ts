/**
 * The KV endpoints of the admin port (sync.md 3.8, architecture.md section 7): a request becomes one question to the node's
 * replica, its answer becomes status, headers and bytes. Keys are the bytes behind `/kv/`, percent-decoded and nothing
 * else; a version is the number in an ETag. Knows nothing of Paxos but the messages that its clients use.
 */
import { fromUtf8, utf8 } from "../base/bytes.ts";
import { EngineError } from "../base/errors.ts";
import { type Answer, type Request, type RequestOf, refusalError } from "../wire/messages.ts";
import { KV_KEY_BYTES_MAX, KV_ROWS_MAX, KV_VALUE_BYTES_MAX } from "../wire/paxos-messages.ts";
import { errorAnswer, type HttpAnswer, type HttpRequest, jsonAnswer, methodRefused, NO_STORE, splitTarget } from "./http-types.ts";
import { keyText, kvLine } from "./kv-line.ts";
import { type AppliedStore, changesAfter, watchLines } from "./kv-watch.ts";

export const KV_PATH = "/kv/";

/** Asks the node's replica. */
export type AskReplica = (body: Request, patienceMs?: number) => Promise<Answer>;
type Freshness = Pick<RequestOf<"kv.read">, "local" | "minVersion">;

export async function answerKv(request: HttpRequest, ask: AskReplica, store: AppliedStore): Promise<HttpAnswer> {
  const { path, query } = splitTarget(request.target);
  const key = decodedKey(path.slice(KV_PATH.length));
  if (key.length === 0) {
    if (request.method !== "GET") return methodRefused(request.method, "GET");
    return query.has("watch") ? watch(query, request, store) : scan(query, request, ask);
  }
  switch (request.method) {
    case "GET":
    case "HEAD":
      return read({ kind: "kv.read", key, ...freshnessOf(query, request) }, ask);
    case "PUT":
      return put(request, key, ask);
    case "DELETE":
      return remove(request, key, ask);
    default:
      return methodRefused(request.method, "GET, HEAD, PUT, DELETE");
  }
}

async function read(body: RequestOf<"kv.read">, ask: AskReplica): Promise<HttpAnswer> {
  const answer = mustBe(await ask(body), "kv.value");
  const { value, version, readVersion } = answer;
  const seen = { ...NO_STORE, "x-cairn-read-version": String(readVersion) };
  if (value !== null)
    return { status: 200, headers: { ...seen, ...versionHeaders(version), etag: `"${version}"`, "content-type": "application/octet-stream" }, body: value };
  const missing = errorAnswer("NOT_FOUND", `no key ${keyText(body.key)} at version ${readVersion}`);
  return { ...missing, headers: { ...missing.headers, ...seen, ...versionHeaders(readVersion) } };
}

async function put(request: HttpRequest, key: Uint8Array, ask: AskReplica): Promise<HttpAnswer> {
  const conditions = { ifMatch: matchOf(request.header("if-match")), ifNoneMatch: isNoneMatch(request.header("if-none-match")) };
  if (conditions.ifMatch !== null && conditions.ifNoneMatch) throw new EngineError("USAGE", "If-Match and If-None-Match exclude each other");
  const value = await request.body(KV_VALUE_BYTES_MAX, "HTTP_BODY_TOO_LARGE");
  const answer = await ask({ kind: "kv.put", key, value, ...conditions });
  if (answer.kind === "kv.conflict") return conflict(key, answer.version);
  const { version } = mustBe(answer, "kv.written");
  return jsonAnswer(200, { version }, { ...NO_STORE, ...versionHeaders(version), etag: `"${version}"` });
}

async function remove(request: HttpRequest, key: Uint8Array, ask: AskReplica): Promise<HttpAnswer> {
  const answer = await ask({ kind: "kv.delete", key, ifMatch: matchOf(request.header("if-match")) });
  if (answer.kind === "kv.conflict") return conflict(key, answer.version);
  return { status: 204, headers: { ...NO_STORE, ...versionHeaders(mustBe(answer, "kv.written").version) }, body: new Uint8Array(0) };
}

/** Rows in key order from one state, one JSON object a line; `x-cairn-more` says that there are more behind the last. */
async function scan(query: URLSearchParams, request: HttpRequest, ask: AskReplica): Promise<HttpAnswer> {
  const prefix = utf8(query.get("prefix") ?? "");
  const after = query.get("after");
  const limit = countOf(query.get("limit"), "limit") ?? KV_ROWS_MAX;
  const body: Request = {
    kind: "kv.scan",
    prefix: checkedKey(prefix),
    after: after === null ? null : checkedKey(utf8(after)),
    limit,
    ...freshnessOf(query, request),
  };
  const { rows, readVersion, more } = mustBe(await ask(body), "kv.rows");
  const lines = rows.map(kvLine);
  const headers = { ...NO_STORE, "content-type": "application/jsonl", "x-cairn-read-version": String(readVersion), "x-cairn-more": String(more) };
  return { status: 200, headers, body: utf8(lines.join("")) };
}

/** Every change of such keys behind a version, and lines that say how far everything was told, until the client leaves. */
function watch(query: URLSearchParams, request: HttpRequest, store: AppliedStore): HttpAnswer {
  for (const other of ["after", "limit"]) if (query.has(other)) throw new EngineError("USAGE", `watch and ${other} exclude each other`);
  const wanted = { prefix: checkedKey(utf8(query.get("prefix") ?? "")), after: countOf(query.get("watch"), "watch") ?? 0 };
  const first = store.read((snap) => changesAfter(snap, wanted));
  const headers = { ...NO_STORE, "content-type": "application/jsonl", "x-cairn-read-version": String(first.upTo) };
  return { status: 200, headers, body: new Uint8Array(0), stream: watchLines(store, wanted, first, request.signal) };
}

/** 412, with the version that the key has; 0 where there is no such key. */
function conflict(key: Uint8Array, version: number): HttpAnswer {
  const answer = errorAnswer("KV_CONDITION", version === 0 ? `there is no key ${keyText(key)}` : `key ${keyText(key)} has version ${version}`);
  return { ...answer, headers: { ...answer.headers, ...versionHeaders(version) } };
}

/** The answer, where it is of this kind; what refuses is thrown. */
export function mustBe<Kind extends Answer["kind"]>(answer: Answer, kind: Kind): Extract<Answer, { kind: Kind }> {
  if (answer.kind === kind) return answer as Extract<Answer, { kind: Kind }>;
  if (answer.kind === "refused") throw refusalError(answer);
  throw new EngineError("FAILED", `the replica answered ${answer.kind} instead of ${kind}`);
}

const versionHeaders = (version: number): Record<string, string> => ({ "x-cairn-version": String(version) });

function freshnessOf(query: URLSearchParams, request: HttpRequest): Freshness {
  const consistency = query.get("consistency") ?? "linearizable";
  if (consistency !== "linearizable" && consistency !== "local")
    throw new EngineError("USAGE", `consistency=${JSON.stringify(consistency)}: want linearizable or local`);
  const minVersion = countOf(request.header("x-cairn-min-version") ?? null, "x-cairn-min-version") ?? 0;
  return { local: consistency === "local", minVersion };
}

function countOf(text: string | null, what: string): number | null {
  if (text === null) return null;
  const count = /^[0-9]{1,15}$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(count)) throw new EngineError("USAGE", `${what} is ${JSON.stringify(text)}: want a whole number`);
  return count;
}

/** `"12"`, or `*` for any version, which is 0. */
function matchOf(header: string | undefined): number | null {
  if (header === undefined) return null;
  if (header.trim() === "*") return 0;
  const [, digits] = /^"([1-9][0-9]{0,14})"$/.exec(header.trim()) ?? [];
  if (digits === undefined) throw new EngineError("USAGE", `If-Match is ${JSON.stringify(header)}: want one version in quotes, or *`);
  return Number(digits);
}

function isNoneMatch(header: string | undefined): boolean {
  if (header === undefined) return false;
  if (header.trim() === "*") return true;
  throw new EngineError("USAGE", `If-None-Match is ${JSON.stringify(header)}: only * is understood`);
}

/** The bytes of a raw path: what is behind a percent sign must be two hex digits. */
function decodedKey(path: string): Uint8Array {
  const raw = utf8(path);
  if (!path.includes("%")) return checkedKey(raw);
  if (/%(?![0-9a-fA-F]{2})/.test(path)) throw new EngineError("USAGE", `key ${JSON.stringify(path)}: a percent sign wants two hex digits`);
  const bytes: number[] = [];
  for (let at = 0; at < raw.length; at++) {
    const isEscape = raw[at] === 0x25;
    bytes.push(isEscape ? Number.parseInt(fromUtf8(raw.slice(at + 1, at + 3)), 16) : (raw[at] as number));
    if (isEscape) at += 2;
  }
  return checkedKey(Uint8Array.from(bytes));
}

function checkedKey(key: Uint8Array): Uint8Array {
  if (key.length > KV_KEY_BYTES_MAX) throw new EngineError("USAGE", `a key of ${key.length} bytes: at most ${KV_KEY_BYTES_MAX}`);
  return key;
}
