/**
 * The head of a log as a client takes it: read from whoever serves it, its signature verified, and its cosignatures where
 * the cosigners are known. Also `cairn log checkpoint`, which prints it, to be kept for a later `log verify --old`.
 */
import { toHex } from "../engine/base/bytes.ts";
import { EngineError } from "../engine/base/errors.ts";
import { type Checkpoint, openCheckpoint } from "../engine/log/checkpoint.ts";
import { cosignedAt } from "../engine/log/cosignature.ts";
import { noteText, parseNote, signaturesOf, type Vkey } from "../engine/log/note.ts";
import { parseProof } from "../engine/log/proof-file.ts";
import type { LogSource } from "../engine/log/verify.ts";
import { clusterSource, knownCosigners, logOption, openLogAccess } from "./log-client.ts";
import { command } from "./spec.ts";

export type VerifiedHead = { readonly checkpoint: Checkpoint; readonly note: Uint8Array };

/** The newest head, or that of an exact size where `size` is given and was published. */
export async function readHead(source: LogSource, vkey: Vkey, size?: number): Promise<VerifiedHead> {
  const newest = await source.read("checkpoint");
  if (newest === null) throw new EngineError("NOT_FOUND", `there is no checkpoint of ${vkey.name} here`);
  const verified = (note: Uint8Array): VerifiedHead => ({ note, checkpoint: openCheckpoint(note, { origin: vkey.name, publicKey: vkey.publicKey }) });
  const head = verified(newest);
  if (size === undefined || size === head.checkpoint.size) return head;
  if (size > head.checkpoint.size) throw new EngineError("LOG_RANGE", `size ${size}: the newest head has ${head.checkpoint.size}`);
  // A proof in an older head carries that head: the one way to ask for it.
  const proof = size === 0 ? null : await source.read(`proof?index=0&size=${size}`);
  if (proof === null) throw new EngineError("LOG_RANGE", `no head of size ${size} is known here; the newest has ${head.checkpoint.size}`);
  return verified(new TextEncoder().encode(parseProof(new TextDecoder().decode(proof)).checkpoint));
}

/** Those of the known cosigners that signed this head; a cosignature that does not verify is LOG_SIGNATURE. */
export function cosignedBy(note: Uint8Array, known: readonly Vkey[]): { readonly name: string; readonly timeSeconds: number }[] {
  const text = noteText(note);
  const parsed = parseNote(text);
  return known.flatMap((vkey) => {
    const timeSeconds = signaturesOf(parsed, vkey).length === 0 ? null : cosignedAt(text, vkey);
    return timeSeconds === null ? [] : [{ name: vkey.name, timeSeconds }];
  });
}

export const logCheckpoint = command({
  name: "log checkpoint",
  summary: "Print the log's signed head after checking its signatures",
  args: [],
  options: [{ name: "size", form: "count", value: "N", means: "the head of this size instead of the newest" }, logOption],
  errors: ["UNAVAILABLE", "LOG_SIGNATURE", "LOG_RANGE", "LOG_UNINITIALISED", "NOT_FOUND"],
  examples: ["cairn log checkpoint", "cairn log checkpoint --json"],
  async run(ctx) {
    const access = await openLogAccess(ctx);
    const { checkpoint, note } = await readHead(clusterSource(access), access.vkey, ctx.options.size);
    const cosigned = cosignedBy(note, await knownCosigners(access.cluster));
    const text = noteText(note);
    await ctx.answer({ origin: checkpoint.origin, size: checkpoint.size, root: toHex(checkpoint.root), cosigned, note: text }, text);
  },
});
