/**
 * `cairn log proof`: the inclusion of an entry as a `.tlog-proof`, or the consistency of two sizes of the log. Asked of a
 * frontend and checked here before it is printed: against the log's key, and against the tiles where the entry is known by
 * its index only. A consistency proof has the form in which a C2SP witness is asked: `old N`, hashes, checkpoint.
 */
import { stat } from "node:fs/promises";
import { resolve } from "node:path";
import { fromHex, toBase64, toHex } from "../engine/base/bytes.ts";
import { EngineError } from "../engine/base/errors.ts";
import { HASH_BYTES, type Hash } from "../engine/base/ids.ts";
import { leafHash } from "../engine/log/merkle.ts";
import { noteText } from "../engine/log/note.ts";
import { checkConsistency } from "../engine/log/proof.ts";
import { openProof, parseProof } from "../engine/log/proof-file.ts";
import { replaceFile } from "../engine/node/replace-file.ts";
import { askLog, clusterSource, firstAnswer, type LogAccess, logOption, openLogAccess } from "./log-client.ts";
import { fileError, readEntryFile } from "./log-entries.ts";
import { readHead } from "./log-head.ts";
import { ProvenTiles } from "./proven-tiles.ts";
import { command } from "./spec.ts";
import { parseCount } from "./units.ts";

type Wanted = { readonly index: number } | { readonly leaf: Hash };

export const logProof = command({
  name: "log proof",
  summary: "Prove that an entry is in the log, or that one size of it extends another",
  args: [{ name: "entry", optional: true, means: "an index, a leaf hash in hex, or the file that was added" }],
  options: [
    { name: "size", form: "count", value: "N", means: "prove it in the published head of this size instead of the newest" },
    { name: "against", form: "count", value: "N", means: "prove that the head extends the first N entries" },
    { name: "output", short: "o", form: "string", value: "FILE", means: "write the proof there instead of stdout" },
    logOption,
  ],
  errors: ["NOT_FOUND", "LOG_RANGE", "LOG_PROOF", "LOG_SIGNATURE", "LOG_ROOT_MISMATCH", "UNAVAILABLE"],
  examples: ["cairn log proof 0 -o first.tlog-proof", "cairn log proof README.md", "cairn log proof --against 1"],
  async run(ctx) {
    const { against, size, output } = ctx.options;
    if ((ctx.args.entry === undefined) === (against === undefined)) throw new EngineError("USAGE", "log proof: want an entry, or --against N, not both");
    const wanted = ctx.args.entry === undefined ? null : await wantedOf(ctx.args.entry);
    const access = await openLogAccess(ctx);
    const { text, fields } = wanted === null ? await consistency(access, against ?? 0, size) : await inclusion(access, wanted, size);
    if (output === undefined) return ctx.answer({ ...fields, proof: text }, text);
    await replaceFile(resolve(output), text, 0o644).catch((cause: unknown) => {
      throw fileError(output, cause);
    });
    await ctx.answer(
      { ...fields, file: output },
      Object.entries(fields)
        .map(([name, value]) => `${name} ${String(value)}`)
        .join(", "),
    );
  },
});

/** Digits are an index and 64 hex digits a hash; a file of such a name is written ./NAME. */
async function wantedOf(text: string): Promise<Wanted> {
  const index = parseCount(text);
  if (index !== null) return { index };
  const hash = text.length === 2 * HASH_BYTES ? fromHex(text) : null;
  if (hash !== null) return { leaf: hash };
  const found = await stat(text).catch(() => null);
  if (found === null) throw new EngineError("NOT_FOUND", `${JSON.stringify(text)} is no index, no leaf hash of ${2 * HASH_BYTES} hex digits, and no file`);
  return { leaf: leafHash(await readEntryFile(text)) };
}

type Proved = { readonly text: string; readonly fields: Readonly<Record<string, unknown>> };

async function inclusion(access: LogAccess, wanted: Wanted, size: number | undefined): Promise<Proved> {
  const query = "index" in wanted ? `index=${wanted.index}` : `hash=${toHex(wanted.leaf)}`;
  const { body } = await firstAnswer(access.addresses, (address) =>
    askLog(`${address}/proof?${query}${size === undefined ? "" : `&size=${size}`}`, { timeoutMs: access.timeoutMs }),
  );
  const text = new TextDecoder().decode(body);
  const proof = parseProof(text);
  const leaf = "leaf" in wanted ? wanted.leaf : await leafOf(access, wanted.index);
  if ("index" in wanted && proof.index !== wanted.index) throw new EngineError("LOG_PROOF", `index ${wanted.index} asked for, the proof is of ${proof.index}`);
  const checkpoint = openProof(proof, { vkey: access.vkey, leaf });
  return { text, fields: { index: proof.index, size: checkpoint.size, leafHash: toHex(leaf) } };
}

/** By way of the tiles of the newest head: a second way to the same root. */
async function leafOf(access: LogAccess, index: number): Promise<Hash> {
  const source = clusterSource(access);
  const { checkpoint } = await readHead(source, access.vkey);
  return (await ProvenTiles.open(source, checkpoint)).leafHash(index);
}

async function consistency(access: LogAccess, oldSize: number, size: number | undefined): Promise<Proved> {
  const source = clusterSource(access);
  const { checkpoint, note } = await readHead(source, access.vkey, size);
  if (oldSize > checkpoint.size) throw new EngineError("LOG_RANGE", `--against ${oldSize}: the head has size ${checkpoint.size}`);
  const tiles = await ProvenTiles.open(source, checkpoint);
  const [oldRoot, path] = await tiles.compute((reader) => [reader.rootAt(oldSize), reader.consistency(oldSize, checkpoint.size)] as const);
  checkConsistency({ oldSize, oldRoot, newSize: checkpoint.size, newRoot: checkpoint.root, path });
  const hashes = Array.from({ length: path.length / HASH_BYTES }, (_, i) => `${toBase64(path.subarray(i * HASH_BYTES, (i + 1) * HASH_BYTES))}\n`);
  const text = `old ${oldSize}\n${hashes.join("")}\n${noteText(note)}`;
  return { text, fields: { oldSize, oldRoot: toHex(oldRoot), size: checkpoint.size, root: toHex(checkpoint.root) } };
}
