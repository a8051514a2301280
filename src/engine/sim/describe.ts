/**
 * Message bodies in one line for trace lines and listings: `kind name=value …`. Hashes are shortened, other bytes are
 * counted, the log's id is left out: a story keeps its text when a field's bytes change.
 */
import { toHex } from "../base/bytes.ts";

/** Fields that say the same in every message of a world. */
const OMITTED = new Set(["kind", "log"]);
const ITEMS_SHOWN_MAX = 4;

export function describeBody(body: unknown): string {
  if (typeof body !== "object" || body === null) return String(body);
  const kind = "kind" in body ? String(body.kind) : "step" in body ? String(body.step) : "";
  const fields = Object.entries(body).filter(([name]) => !OMITTED.has(name) && !(kind === body[name as never]));
  return [kind, ...fields.map(([name, value]) => `${name}=${describeValue(value)}`)].filter((word) => word !== "").join(" ");
}

function describeValue(value: unknown): string {
  if (value === null || value === undefined) return "-";
  if (value instanceof Uint8Array) return value.length === 32 ? toHex(value.subarray(0, 4)) : `${value.length}B`;
  if (Array.isArray(value)) return value.length > ITEMS_SHOWN_MAX ? `[${value.length} items]` : `[${value.map(describeValue).join(" ")}]`;
  if (typeof value === "object") return `{${describeBody(value)}}`;
  if (typeof value === "string") return /^[^\s"=]+$/.test(value) ? value : JSON.stringify(value);
  return String(value);
}
