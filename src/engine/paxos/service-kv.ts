/**
 * The service `kv` (sync.md 3.8): small values under the user's keys, with the conditions of HTTP. A key's version is the
 * one that wrote it; one version writes a key at most once, so `If-Match` is exact.
 */
import { compareBytes, concatBytes } from "../base/bytes.ts";
import { invariant } from "../base/invariant.ts";
import { replicatedKeys } from "../store/keys.ts";
import type { Answer, Request, RequestOf } from "../wire/messages.ts";
import { KV_ROWS_MAX } from "../wire/paxos-messages.ts";
import { behind, type Effected, type Service } from "./services.ts";
import type { Command } from "./state.ts";
import type { Found, View } from "./view.ts";

/** Rows of one scan, in bytes: an answer is one frame. */
const SCAN_BYTES_MAX = 4 * 1_024 * 1_024;
const nameOf = behind("kv/key/");
type Ask = RequestOf<"kv.put" | "kv.delete" | "kv.read" | "kv.scan">;

const isKv = (body: Request): body is Ask => body.kind === "kv.put" || body.kind === "kv.delete" || body.kind === "kv.read" || body.kind === "kv.scan";

export const kvService: Service = {
  name: "kv",
  format: 1,
  handles: isKv,
  keysOf: (body) => (body.kind === "kv.put" || body.kind === "kv.delete" ? [replicatedKeys.kv(body.key)] : []),
  isAlone: () => false,
  evaluate,
  read(body, view, readVersion) {
    if (body.kind === "kv.scan") return scan(body, view, readVersion);
    invariant(body.kind === "kv.read", `kv does not read ${body.kind}`);
    const found = view.get(replicatedKeys.kv(body.key));
    return { kind: "kv.value", value: found?.value ?? null, version: found?.version ?? 0, readVersion };
  },
  nameOf,
};

function evaluate({ body }: Command, view: View, version: number): Effected {
  invariant(body.kind === "kv.put" || body.kind === "kv.delete", `kv does not write ${body.kind}`);
  const key = replicatedKeys.kv(body.key);
  const { ifMatch } = body;
  const isAbsentWanted = body.kind === "kv.put" && body.ifNoneMatch;
  if (body.kind === "kv.put" && ifMatch === null && !isAbsentWanted) return put(key, body.value, version); // what was there does not matter
  const found = view.get(key);
  if ((isAbsentWanted && found !== null) || (ifMatch !== null && !matches(found, ifMatch)))
    return { ops: [], outcome: { kind: "kv.conflict", version: found?.version ?? 0 } };
  if (body.kind === "kv.put") return put(key, body.value, version);
  if (found === null) return { ops: [], outcome: { kind: "kv.written", version: version - 1 } };
  return { ops: [{ op: "del", key }], outcome: { kind: "kv.written", version } };
}

const put = (key: Uint8Array, value: Uint8Array, version: number): Effected => ({ ops: [{ op: "put", key, value }], outcome: { kind: "kv.written", version } });

/** 0 stands for any version: `If-Match: *`. */
const matches = (found: Found | null, ifMatch: number): boolean => found !== null && (ifMatch === 0 || found.version === ifMatch);

function scan({ prefix, after, limit }: RequestOf<"kv.scan">, view: View, readVersion: number): Answer {
  const start = replicatedKeys.kv(prefix);
  const behindAfter = after === null ? null : concatBytes(replicatedKeys.kv(after), Uint8Array.of(0));
  const from = behindAfter !== null && compareBytes(behindAfter, start) > 0 ? behindAfter : start;
  const count = Math.max(1, Math.min(limit === 0 ? KV_ROWS_MAX : limit, KV_ROWS_MAX));
  const found = view.range(from, endOf(start), count + 1);
  const rows: { key: Uint8Array; value: Uint8Array; version: number }[] = [];
  let bytes = 0;
  for (const { key, value, version } of found.slice(0, count)) {
    bytes += key.length + value.length;
    if (rows.length > 0 && bytes > SCAN_BYTES_MAX) break;
    rows.push({ key: nameOf(key), value, version });
  }
  return { kind: "kv.rows", rows, readVersion, more: rows.length < found.length };
}

/** The first key behind every key with this prefix: the prefix begins with letters, so it never overflows. */
function endOf(prefix: Uint8Array): Uint8Array {
  let length = prefix.length;
  while (prefix[length - 1] === 0xff) length--;
  const end = prefix.slice(0, length);
  end[length - 1] = (end[length - 1] as number) + 1;
  return end;
}
