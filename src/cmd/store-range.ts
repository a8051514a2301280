/**
 * Which keys a `store` command is about, as people write them: those that begin like a key that `store ls` shows, and how
 * many of them are listed. Not a command itself.
 */
import type { OptionSpec } from "./spec.ts";
import { parseKey, prefixRange } from "./store-key.ts";

/** Rows of a list for people; a program asks for what it wants. */
export const LIST_COUNT = "100";
export const prefixOption = { name: "prefix", form: "string", value: "KEY", means: "only keys that begin so" } as const satisfies OptionSpec;

/** A prefix is a whole readable key, or part of one: then its last piece is cut to what is known. */
export function rangeOf(db: string, prefix: string | undefined): ReturnType<typeof prefixRange> {
  if (prefix === undefined) return {};
  const id = /^((?:[0-9a-f]{2}){1,8})\/?$/.exec(prefix)?.[1];
  return prefixRange(db === "log" && id !== undefined ? parseKey(db, `0x${id}`) : parseKey(db, db === "log" ? prefix.replace(/\/$/, "") : prefix));
}
