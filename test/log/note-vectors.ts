/** The files of `fixtures/vectors/note`, and what several tests of texts share: keys from seeds, and which error a call ends with. */
import { readFileSync } from "node:fs";
import { publicKeyOf } from "../../src/engine/base/ed25519.ts";
import type { ErrorCode } from "../../src/engine/base/errors.ts";
import { type KeyType, parseVkey, type Vkey, vkeyOf } from "../../src/engine/log/note.ts";

export type NoteVector = { readonly comment: string; readonly seed?: string; readonly vkey: string; readonly body: string; readonly note: string };
export type CosignatureVector = {
  readonly comment: string;
  readonly seed: string;
  readonly cosigner: string;
  readonly vkey: string;
  readonly checkpoint: string;
  readonly line: string;
  readonly timeSeconds: number;
};
export type ProofVector = {
  readonly comment: string;
  readonly index?: number;
  readonly oldSize?: number;
  readonly size: number;
  readonly leaf?: string;
  readonly oldRoot?: string;
  readonly root: string;
  readonly path: readonly string[];
};
export type InvalidVector = { readonly kind: string; readonly comment: string; readonly text: string; readonly code: ErrorCode };

export function vectors<T>(file: string): readonly T[] {
  return JSON.parse(readFileSync(new URL(`../../fixtures/vectors/note/${file}`, import.meta.url), "utf8")) as readonly T[];
}

export const invalid = (kind: string): readonly InvalidVector[] => {
  const found = vectors<InvalidVector>("invalid.json").filter((each) => each.kind === kind);
  if (found.length === 0) throw new Error(`no invalid vectors of kind ${kind}`);
  return found;
};

export const seedOf = (byte: number): Uint8Array => new Uint8Array(32).fill(byte);
export const keyOf = (name: string, type: KeyType, byte: number): Vkey => parseVkey(vkeyOf(name, type, publicKeyOf(seedOf(byte))));
