/**
 * The log port: reads go to gateway/loghttp.ts, `add` and `add-many` to the storage role of this node (merge.md section 4).
 * `?wait=` holds the request until the entries are sequenced or signed here; when the time is over the answer is 202 with
 * the receipts again, never an error for something kept. `?receipts=batch` on `add-many` answers one line a signed batch,
 * from which each entry's receipt follows. Hot path: a bundle goes to the core as it came.
 */
import { concatBytes, fromUtf8, toHex } from "../base/bytes.ts";
import { EngineError } from "../base/errors.ts";
import { HASH_BYTES } from "../base/ids.ts";
import { type HttpAnswer, type HttpHandler, type HttpRequest, methodRefused, NO_STORE, splitTarget } from "../gateway/http-types.ts";
import { answerLogRead, proofText } from "../gateway/loghttp.ts";
import { bundleOf, ENTRY_BYTES_MAX } from "../log/entry.ts";
import type { AddAnswer, MergeConfig, ReceiptForm } from "../merge/config.ts";
import { findEntries } from "../merge/find.ts";
import { readEdge, rows } from "../merge/records.ts";
import { refusalError } from "../wire/messages.ts";
import type { DaemonAnswer, DaemonRequest } from "./assemble.ts";
import type { NodeConfig } from "./config.ts";
import type { Disk } from "./disk.ts";

/** Body of one `add-many`. */
const BUNDLE_BODY_BYTES_MAX = 8 * 1_024 * 1_024;
const WAIT_MS_MAX = 30_000;
const RETRY_AFTER_S = 1;
const LOG_PATH = "/log";

export type LogPort = {
  readonly node: NodeConfig;
  readonly disk: Disk;
  ask(body: DaemonRequest): Promise<DaemonAnswer>;
};

export function answerLog(port: LogPort): HttpHandler {
  return (request) => {
    const { path } = splitTarget(request.target);
    if (path !== LOG_PATH && !path.startsWith(`${LOG_PATH}/`)) throw new EngineError("NOT_FOUND", `${path}: the log is below ${LOG_PATH}/`);
    const rest = path.slice(LOG_PATH.length + 1);
    if (rest === "add" || rest === "add-many") return add(port, request, rest);
    if (!port.node.self.roles.includes("frontend"))
      throw new EngineError("NOT_FOUND", `${port.node.self.name} is no frontend; ask ${port.node.merge.frontends.join(", ")}`);
    using snap = port.disk.snapshot();
    return answerLogRead(request, rest, snap, port.node.merge);
  };
}

type Wait = { readonly until: "kept" | "sequenced" | "signed"; readonly timeoutMs: number };

async function add(port: LogPort, request: HttpRequest, path: "add" | "add-many"): Promise<HttpAnswer> {
  if (request.method !== "POST") return methodRefused(request.method, "POST");
  // A page in a browser may post to a loopback port without being asked; no client of ours sends this header.
  if (request.header("sec-fetch-site") !== undefined && request.header("sec-fetch-site") !== "same-origin")
    throw new EngineError("NOT_ALLOWED", "entries are not taken from pages of other sites");
  if (!port.node.self.roles.includes("storage"))
    throw new EngineError("NOT_FOUND", `${port.node.self.name} stores no entries; ask ${port.node.merge.storages.join(", ")}`);
  const { query } = splitTarget(request.target);
  const wait = readWait(query);
  const receipts = readForm(query, path, wait);
  const bundle =
    path === "add" ? bundleOf([await request.body(ENTRY_BYTES_MAX, "LOG_ENTRY_TOO_LARGE")]) : await request.body(BUNDLE_BODY_BYTES_MAX, "HTTP_BODY_TOO_LARGE");
  if (bundle.length === 0) throw new EngineError("LOG_ENCODING", "the bundle holds no entry");
  const answer = await port.ask({ kind: "add", bundle, receipts });
  if (answer.kind === "refused") throw refusalError(answer);
  if (answer.kind !== "added") throw new EngineError("FAILED", `the storage role answered ${answer.kind}`);
  const type = path === "add" ? "application/json" : "application/jsonl";
  if (wait.until === "kept") return { status: 202, headers: { "content-type": type, ...NO_STORE }, body: answer.lines };
  return waited(port, request, answer, wait, type);
}

function readForm(query: URLSearchParams, path: "add" | "add-many", wait: Wait): ReceiptForm {
  const form = query.get("receipts") ?? "entry";
  if (form !== "entry" && form !== "batch") throw new EngineError("USAGE", `receipts=${JSON.stringify(form)}: want entry or batch`);
  if (form === "batch" && (path === "add" || wait.until !== "kept"))
    throw new EngineError("USAGE", "receipts=batch is for add-many without wait: what is waited for is told entry by entry");
  return form;
}

function readWait(query: URLSearchParams): Wait {
  const wait = query.get("wait");
  if (wait === null) return { until: "kept", timeoutMs: 0 };
  if (wait !== "sequenced" && wait !== "signed") throw new EngineError("USAGE", `wait=${JSON.stringify(wait)}: want sequenced or signed`);
  const text = query.get("timeoutMs") ?? "10000";
  const timeoutMs = /^[1-9][0-9]{0,5}$/.test(text) ? Number(text) : Number.NaN;
  if (!(timeoutMs <= WAIT_MS_MAX)) throw new EngineError("USAGE", `timeoutMs=${JSON.stringify(text)}: want 1 to ${WAIT_MS_MAX}`);
  return { until: wait, timeoutMs };
}

/** Looks into this node's own copy once an interval: what is sequenced elsewhere arrives here with the next step. */
async function waited(port: LogPort, request: HttpRequest, added: AddAnswer, wait: Wait, type: string): Promise<HttpAnswer> {
  const { merge } = port.node;
  const headers = { "content-type": type, ...NO_STORE };
  const deadline = performance.now() + wait.timeoutMs;
  for (let seenSize = -1; !request.signal.aborted; ) {
    const size = knownSize(port.disk, merge, wait.until);
    const body = size > seenSize ? foundLines(port.disk, merge, added, wait.until === "signed") : null;
    if (body !== null) return { status: 200, headers, body };
    seenSize = size; // until it grows, there is nothing new to find
    const leftMs = deadline - performance.now();
    if (leftMs <= 0) break;
    await Bun.sleep(Math.min(merge.intervalMs, leftMs));
  }
  return { status: 202, headers: { ...headers, "retry-after": String(RETRY_AFTER_S) }, body: added.lines };
}

/** How far this node's copy has come; one row to read. */
function knownSize(disk: Disk, merge: MergeConfig, until: Wait["until"]): number {
  using snap = disk.snapshot();
  if (until === "signed") return rows.published(snap, merge.log)?.size ?? 0;
  return readEdge(snap, merge.log).size; // the hash index grows in the same commits
}

/** A line for each receipt, with its index, and its proof where the head must be signed; null while an entry is not there. */
function foundLines(disk: Disk, merge: MergeConfig, added: AddAnswer, isSigned: boolean): Uint8Array | null {
  using snap = disk.snapshot();
  const { indexes } = findEntries(snap, merge, added.hashes);
  const head = isSigned ? rows.published(snap, merge.log) : null;
  if (isSigned && head === null) return null;
  const receipts = receiptLines(added.lines);
  const lines: Uint8Array[] = [];
  for (const [at, index] of indexes.entries()) {
    if (index === null || (head !== null && index >= head.size)) return null;
    const proof = head === null ? "" : `,"proof":${JSON.stringify(proofText(snap, merge, index, head))}`;
    lines.push(utf8Line(`{"index":${index}${proof},"receipt":`, receipts[at] ?? missingReceipt(added, at)));
  }
  return concatBytes(...lines);
}

const utf8Line = (before: string, receipt: Uint8Array): Uint8Array => concatBytes(Buffer.from(before), receipt, Buffer.from("}\n"));

/** Views of the lines, without their LF. */
function receiptLines(lines: Uint8Array): Uint8Array[] {
  const found: Uint8Array[] = [];
  for (let from = 0; from < lines.length; ) {
    const end = lines.indexOf(0x0a, from);
    found.push(lines.subarray(from, end < 0 ? lines.length : end));
    from = end < 0 ? lines.length : end + 1;
  }
  return found;
}

function missingReceipt(added: AddAnswer, at: number): never {
  const hash = toHex(added.hashes.subarray(at * HASH_BYTES, (at + 1) * HASH_BYTES));
  throw new EngineError("FAILED", `no receipt for entry ${at}, ${hash}, in ${fromUtf8(added.lines).length} characters of receipts`);
}
