/**
 * A row of the service `kv` as one line of JSON (sync.md 3.8): keys and values are bytes, so what is no text is told as
 * base64 under a name of its own. Lists and watches print the same lines.
 */
import { fromUtf8, utf8 } from "../base/bytes.ts";
import { type EngineError, errorTable } from "../base/errors.ts";

export type KvLine = { readonly key: Uint8Array; readonly version: number /** Null: the key was deleted. */; readonly value: Uint8Array | null };

export function kvLine({ key, version, value }: KvLine): string {
  const what = value === null ? { deleted: true } : textOrBase64("value", value);
  return `${JSON.stringify({ ...textOrBase64("key", key), version, ...what })}\n`;
}

/** A field as text where it is that, else `<name>Base64`. */
function textOrBase64(name: "key" | "value", bytes: Uint8Array): Record<string, string> {
  const text = textOf(bytes);
  return text === null ? { [`${name}Base64`]: bytes.toBase64() } : { [name]: text };
}

export const keyText = (key: Uint8Array): string => JSON.stringify(textOf(key) ?? `0x${key.toHex()}`);

export const jsonLine = (value: object): Uint8Array => utf8(`${JSON.stringify(value)}\n`);

/** The last line of an answer that began well. */
export function errorLine({ code, message }: EngineError): Uint8Array {
  const { hint, retryable } = errorTable[code];
  return jsonLine({ error: { code, message, hint, retryable } });
}

function textOf(bytes: Uint8Array): string | null {
  try {
    return fromUtf8(bytes);
  } catch {
    return null; // bytes that are no text are told as base64
  }
}
