/**
 * What a stranger can check of the demo's log, knowing its keys and nothing else: a whole fsck over HTTP at every frontend,
 * a proof for each entry, cosignatures, and that the log only grew since checkpoints kept before. Believes no node.
 */
import { equalBytes, toHex } from "../engine/base/bytes.ts";
import { EngineError } from "../engine/base/errors.ts";
import { type Checkpoint, openCheckpoint } from "../engine/log/checkpoint.ts";
import { cosignedAt } from "../engine/log/cosignature.ts";
import { leafHash } from "../engine/log/merkle.ts";
import { noteText, type Vkey } from "../engine/log/note.ts";
import { openProof, parseProof } from "../engine/log/proof-file.ts";
import { type VerifyReport, verifyLog } from "../engine/log/verify.ts";
import { askLog, urlSource } from "./log-client.ts";

const ASK_MS = 10_000;
const NOTE_BYTES_MAX = 128 * 1_024;
const PROOFS_IN_FLIGHT = 8;

export type Frontend = { readonly id: string; readonly log: string };
type Keys = { readonly vkey: Vkey; readonly cosigners: readonly Vkey[]; readonly backupquorum: number };

/** The signed checkpoint that a frontend serves now, and its bytes to keep. */
export async function keepCheckpoint({ log }: Frontend, vkey: Vkey, signal: AbortSignal): Promise<Checkpoint & { readonly note: Uint8Array }> {
  const { body } = await askLog(`${log}/checkpoint`, { timeoutMs: ASK_MS, bytesMax: NOTE_BYTES_MAX, signal });
  return { ...openCheckpoint(body, { origin: vkey.name, publicKey: vkey.publicKey }), note: body };
}

/** The fsck of what each frontend serves; all must serve the same head. */
export async function verifyFrontends(frontends: readonly Frontend[], keys: Keys, old: readonly Uint8Array[], signal: AbortSignal): Promise<VerifyReport[]> {
  const reports: VerifyReport[] = [];
  for (const { id, log } of frontends) {
    signal.throwIfAborted();
    const report = await verifyLog(urlSource(log, ASK_MS), { vkey: keys.vkey, old });
    const first = reports[0]?.checkpoint ?? report.checkpoint;
    if (!sameHead(first, report.checkpoint))
      throw new EngineError("LOG_HEAD_FORK", `${frontends[0]?.id} serves ${headText(first)}, ${id} serves ${headText(report.checkpoint)}`);
    reports.push(report);
  }
  return reports;
}

/** Names of those that cosigned the checkpoint; fewer than backupquorum is a failure. */
export function cosignersOf(note: Uint8Array, { vkey, cosigners, backupquorum }: Keys): string[] {
  const names = cosigners.filter((cosigner) => cosignedAt(noteText(note), cosigner) !== null).map(({ name }) => name);
  if (names.length < backupquorum)
    throw new EngineError("LOG_SIGNATURE", `the checkpoint of ${vkey.name} has ${names.length} cosignatures, backupquorum is ${backupquorum}`);
  return names;
}

/** A proof for each entry, from the frontends in turn, each leading to this very head. */
export async function proveEntries(
  entries: readonly Uint8Array[],
  frontends: readonly Frontend[],
  { vkey, head, signal }: { readonly vkey: Vkey; readonly head: Checkpoint; readonly signal: AbortSignal },
): Promise<number> {
  const indexes = new Set<number>();
  let next = 0;
  const lane = async (): Promise<void> => {
    for (let at = next++; at < entries.length; at = next++) {
      const frontend = frontends[at % frontends.length];
      const leaf = leafHash(entries[at] ?? new Uint8Array(0));
      const { body } = await askLog(`${frontend?.log}/proof?hash=${toHex(leaf)}`, { timeoutMs: ASK_MS, bytesMax: NOTE_BYTES_MAX, signal });
      const proof = parseProof(noteText(body));
      const checkpoint = openProof(proof, { vkey, leaf });
      if (!sameHead(checkpoint, head))
        throw new EngineError("LOG_PROOF", `${frontend?.id} proves entry ${at} in ${headText(checkpoint)}, not in ${headText(head)}`);
      indexes.add(proof.index);
    }
  };
  await Promise.all(Array.from({ length: PROOFS_IN_FLIGHT }, lane));
  if (indexes.size !== entries.length) throw new EngineError("LOG_PROOF", `${entries.length} entries were proved at ${indexes.size} places`);
  return indexes.size;
}

const sameHead = (a: Checkpoint, b: Checkpoint): boolean => a.size === b.size && equalBytes(a.root, b.root);
const headText = ({ size, root }: Checkpoint): string => `size ${size} with root ${toHex(root)}`;
