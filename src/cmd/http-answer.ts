/**
 * What a client reads of an HTTP answer: never more bytes than it asked for, fields that may be missing, and the error
 * that the other side told, with its code. Nothing here is believed further. Not a command itself.
 */
import { concatBytes } from "../engine/base/bytes.ts";
import { EngineError, errorCodeOf } from "../engine/base/errors.ts";

export type Fields = Readonly<Record<string, unknown>>;

/** The fields of an object, or none. */
export const fieldsOf = (value: unknown): Fields => (typeof value === "object" && value !== null ? (value as Fields) : {});

/** Throws FRAME_CORRUPT where the answer is longer. */
export async function boundedBody(answer: Response, from: string, bytesMax: number): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let total = 0;
  for await (const part of answer.body ?? []) {
    total += part.length;
    if (total > bytesMax) throw new EngineError("FRAME_CORRUPT", `${from}: an answer of more than ${bytesMax} bytes`);
    parts.push(part);
  }
  return concatBytes(...parts);
}

/** Null where the body is no JSON object: it comes from something else than a node of ours. */
export function parseObject(body: Uint8Array): Fields | null {
  try {
    const value: unknown = JSON.parse(new TextDecoder().decode(body));
    return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Fields) : null;
  } catch {
    return null;
  }
}

/** The error that a body tells: `{"error": {"code", "message"}}`; null where it tells none. */
export function toldError(body: Fields | null, prefix = ""): EngineError | null {
  const { code, message } = fieldsOf(body?.["error"]);
  return code === undefined || message === undefined ? null : new EngineError(errorCodeOf(String(code)), `${prefix}${String(message)}`);
}
