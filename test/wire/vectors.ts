/** Reads `fixtures/vectors/wire/*.json`: bytes are hex, blanks between groups are for people. */
import { readFileSync } from "node:fs";

export const hex = (text: string): Uint8Array => Uint8Array.fromHex(text.replaceAll(" ", ""));

export function vectors<T>(name: string): T {
  return JSON.parse(readFileSync(new URL(`../../fixtures/vectors/wire/${name}.json`, import.meta.url), "utf8")) as T;
}
