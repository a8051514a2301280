/**
 * The formats of the services' rows (sync.md 3.8): each service keeps the number of its own in a row. A build that meets a
 * higher one cannot read what follows, and must not apply or serve it: it stops, and what it holds stays as it is. A lower
 * one is what an older build wrote, and every build reads those.
 */
import { equalBytes } from "../base/bytes.ts";
import type { Batch, Snapshot } from "../base/effects.ts";
import { EngineError } from "../base/errors.ts";
import { replicatedKeys } from "../store/keys.ts";
import type { Service } from "./services.ts";

/** Of what the store holds. Throws STORE_FORMAT. */
export function checkFormats(services: readonly Service[], snap: Snapshot): void {
  for (const { name, format } of services) {
    const why = newer(name, format, snap.get("replicated", formatKey(name)));
    if (why !== null) throw new EngineError("STORE_FORMAT", why);
  }
}

/** Of a version that was chosen: why it cannot be applied, or null. Hot path: most keys differ in length or first bytes. */
export function newerFormat(services: readonly Service[], ops: Batch): string | null {
  for (const op of ops) {
    if (op.op !== "put" || op.value.length !== 1) continue;
    for (const { name, format } of services) {
      if (!equalBytes(op.key, formatKey(name))) continue;
      const why = newer(name, format, op.value);
      if (why !== null) return why;
    }
  }
  return null;
}

function newer(name: string, format: number, row: Uint8Array | undefined): string | null {
  const found = row?.[0] ?? 0;
  return found <= format ? null : `rows of the service ${name} are of format ${found}, this build reads up to ${format}`;
}

const keys = new Map<string, Uint8Array>();
function formatKey(name: string): Uint8Array {
  let key = keys.get(name);
  if (key === undefined) {
    key = replicatedKeys.serviceFormat(name);
    keys.set(name, key);
  }
  return key;
}
