/**
 * `cairn log add`: entries to a storage node, in batches, the next node where one does not answer (merge.md section 4).
 * A batch is accepted whole or not at all, adding again is harmless, and a receipt is checked before it is shown; so the
 * receipts on stdout are exactly what is kept, and any status but 0 says that something is not. Receipts keep the order of the
 * entries. Busy and full nodes are asked again until --timeout is over, counted for each batch.
 */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { toHex } from "../engine/base/bytes.ts";
import { EngineError, errorTable } from "../engine/base/errors.ts";
import { HASH_BYTES } from "../engine/base/ids.ts";
import type { Checkpoint } from "../engine/log/checkpoint.ts";
import { bundleOf, LENGTH_BYTES } from "../engine/log/entry.ts";
import { leafHashes } from "../engine/log/merkle.ts";
import type { Vkey } from "../engine/log/note.ts";
import { checkInclusion } from "../engine/log/proof.ts";
import { openProof, parseProof } from "../engine/log/proof-file.ts";
import { askLog, type LogAccess, logOption, openLogAccess, worstOf } from "./log-client.ts";
import { countedEntries, type EntryForm, fileError, readEntries } from "./log-entries.ts";
import { PipeClosed } from "./out.ts";
import { command } from "./spec.ts";

/** One signature covers 256 entries, one commit many batches: large enough for both, small against the node's 8 MiB. */
const BATCH_COUNT_MAX = 4_096;
const BATCH_BYTES_MAX = 1_024 * 1_024;
/** Batches under way at once: one is hashed and written while another is signed. */
const LANES = 4;
/** A receipt is about a kilobyte, its proof two or three. */
const ANSWER_BYTES_MAX = 64 * 1_024 * 1_024;
const RETRY_MS = 100;
/** Of the time that one node gets, what it may itself wait before it says 202. */
const WAIT_SHARE = 0.8;
const WAIT_MS_MAX = 30_000;
const ATTEMPT_MS_MIN = 250;
const PROGRESS_MS = 2_000;

type Until = "kept" | "sequenced" | "signed";
type Batch = { readonly bundle: Uint8Array; readonly count: number; readonly hashes: Uint8Array };
type Line = { readonly text: string; readonly value: object; readonly hash: string; readonly proof: string | null };
/** `lines` is empty where nothing is known to be kept. */
type Sent = { readonly lines: readonly Line[]; readonly failure: EngineError | null };

export const logAdd = command({
  name: "log add",
  summary: "Add entries to the log and print their receipts",
  args: [{ name: "file", many: true, means: "files, or - for stdin; each one is an entry" }],
  options: [
    { name: "lines", form: "flag", means: "each line is an entry, without its line end" },
    { name: "pem", form: "flag", means: "each CERTIFICATE block is an entry, as DER" },
    { name: "bundle", form: "flag", means: "entries with two bytes of length before each, as in an entry bundle" },
    { name: "wait", form: ["sequenced", "signed"], value: "sequenced|signed", means: "wait until each entry has its index, or its proof in a signed head" },
    { name: "proof-dir", form: "string", value: "DIR", means: "write HASH.tlog-proof of each entry there; waits for signed" },
    logOption,
  ],
  errors: ["LOG_ENTRY_TOO_LARGE", "LOG_ENCODING", "NOT_FOUND", "UNAVAILABLE", "TIMEOUT", "LOG_BUSY", "LOG_STORAGE_QUORUM", "STORE_FULL"],
  examples: ["cairn log add README.md", "cairn log add --pem /etc/ssl/certs/ca-certificates.crt --wait signed", "seq 1000 | cairn log add --lines -"],
  async run(ctx) {
    const form = formOf(ctx.options);
    const proofDir = ctx.options["proof-dir"];
    const until: Until = proofDir !== undefined ? "signed" : (ctx.options.wait ?? "kept");
    if (ctx.args.file.length === 0) throw new EngineError("USAGE", "no file given; - is stdin");
    if (ctx.args.file.filter((file) => file === "-").length > 1) throw new EngineError("USAGE", "stdin (-) can be read once");
    const access = await openLogAccess(ctx);
    if (proofDir !== undefined)
      await mkdir(proofDir, { recursive: true }).catch((cause: unknown) => {
        throw fileError(proofDir, cause);
      });
    const sender = new Sender(access, until);
    const startedMs = performance.now();
    let notedMs = startedMs;
    let receipts = 0;
    let isClosed = false; // nobody reads the receipts any more; the entries are still to be added, or the status would lie
    const show = async ({ lines }: Sent): Promise<void> => {
      if (proofDir !== undefined) await Promise.all(lines.map((line) => writeProof(proofDir, line)));
      if (!isClosed)
        isClosed = await isClosedAfter(
          ctx.answer(
            lines.map(({ value }) => value),
            lines.map(({ text }) => text).join("\n"),
          ),
        );
      receipts += lines.length;
      const nowMs = performance.now();
      if (nowMs - notedMs < PROGRESS_MS) return;
      notedMs = nowMs;
      ctx.note(`${countedEntries(receipts)} kept, ${Math.round((receipts * 1_000) / (nowMs - startedMs))}/s`);
    };
    const failure = await sendAll(batches(readEntries(ctx.args.file, form)), sender, show);
    if (failure === null) return;
    const kept = receipts === 0 ? "no entry is known to be kept" : `${countedEntries(receipts)} kept: the receipts are on stdout`;
    throw new EngineError(failure.code, `${failure.message}; ${kept}`, { cause: failure });
  },
});

/** No fsync: a proof that a power cut takes can be asked for again. */
async function writeProof(dir: string, { hash, proof }: Line): Promise<void> {
  const file = join(dir, `${hash}.tlog-proof`);
  if (proof === null) return;
  await writeFile(file, proof).catch((cause: unknown) => {
    throw fileError(file, cause);
  });
}

const isClosedAfter = (written: Promise<void>): Promise<boolean> =>
  written.then(
    () => false,
    (error: unknown) => {
      if (error instanceof PipeClosed) return true;
      throw error;
    },
  );

function formOf({ lines, pem, bundle }: { readonly lines: boolean; readonly pem: boolean; readonly bundle: boolean }): EntryForm {
  if ([lines, pem, bundle].filter(Boolean).length > 1) throw new EngineError("BAD_OPTION", "--lines, --pem and --bundle: want one of them");
  return lines ? "lines" : pem ? "pem" : bundle ? "bundle" : "whole";
}

async function* batches(entries: AsyncIterable<Uint8Array>): AsyncGenerator<Batch> {
  let open: Uint8Array[] = [];
  let bytes = 0;
  for await (const entry of entries) {
    const size = LENGTH_BYTES + entry.length;
    if (open.length === BATCH_COUNT_MAX || (open.length > 0 && bytes + size > BATCH_BYTES_MAX)) {
      yield batchOf(open);
      open = [];
      bytes = 0;
    }
    open.push(entry);
    bytes += size;
  }
  if (open.length > 0) yield batchOf(open);
}

function batchOf(entries: readonly Uint8Array[]): Batch {
  const bundle = bundleOf(entries);
  return { bundle, count: entries.length, hashes: leafHashes(bundle) };
}

/** Shows what is kept, in order, also behind a failure; returns the first one. */
async function sendAll(all: AsyncIterable<Batch>, sender: Sender, show: (sent: Sent) => Promise<void>): Promise<EngineError | null> {
  const underWay: Promise<Sent>[] = [];
  let failure: EngineError | null = null;
  const settle = async (): Promise<void> => {
    const sent = await (underWay.shift() as Promise<Sent>);
    failure ??= sent.failure;
    await show(sent);
  };
  try {
    for await (const batch of all) {
      if (underWay.length === LANES) await settle();
      if (failure !== null) break;
      underWay.push(sender.send(batch));
    }
  } catch (error) {
    if (!(error instanceof EngineError)) throw error;
    failure ??= error;
  }
  while (underWay.length > 0) await settle();
  return failure;
}

class Sender {
  private readonly access: LogAccess;
  private readonly until: Until;
  /** Storage nodes, the one to ask first in front. */
  private addresses: readonly string[];
  private readonly checker: LineChecker;

  constructor(access: LogAccess, until: Until) {
    this.access = access;
    this.until = until;
    this.addresses = access.addresses;
    this.checker = new LineChecker(access.vkey);
  }

  /** Never rejects with an error of the world. */
  async send(batch: Batch): Promise<Sent> {
    const untilMs = performance.now() + this.access.timeoutMs;
    let kept: readonly Line[] = [];
    let failure: EngineError | null = null;
    do {
      const failures: EngineError[] = [];
      const order = this.addresses;
      for (const [at, address] of order.entries()) {
        const leftMs = untilMs - performance.now();
        if (leftMs <= 0) break;
        try {
          const { lines, isDone } = await this.ask(address, batch, Math.max(ATTEMPT_MS_MIN, leftMs / (order.length - at)));
          this.prefer(address);
          if (isDone) return { lines, failure: null };
          kept = lines;
          break; // it has them, and goes on waiting at the same node
        } catch (error) {
          if (!(error instanceof EngineError)) throw error;
          if (error.code === "NOT_FOUND")
            this.addresses = this.addresses.filter((each) => each !== address); // no storage node
          else if (!errorTable[error.code].retryable) return { lines: kept, failure: error };
          failures.push(error);
        }
      }
      if (failures.length > 0) failure = worstOf(failures);
      if (kept.length === 0) await Bun.sleep(RETRY_MS);
    } while (performance.now() < untilMs && this.addresses.length > 0);
    if (kept.length === 0) return { lines: kept, failure: failure ?? new EngineError("UNAVAILABLE", "no storage node was asked") };
    return { lines: kept, failure: new EngineError("TIMEOUT", `${countedEntries(kept.length)} not ${this.until} within ${this.access.timeoutMs} ms`) };
  }

  private prefer(address: string): void {
    if (this.addresses[0] !== address) this.addresses = [address, ...this.addresses.filter((each) => each !== address)];
  }

  private async ask(address: string, batch: Batch, timeoutMs: number): Promise<{ lines: readonly Line[]; isDone: boolean }> {
    const waitMs = Math.max(1, Math.min(WAIT_MS_MAX, Math.floor(timeoutMs * WAIT_SHARE)));
    const query = this.until === "kept" ? "" : `?wait=${this.until}&timeoutMs=${waitMs}`;
    const { status, body } = await askLog(`${address}/add-many${query}`, { timeoutMs: Math.ceil(timeoutMs), body: batch.bundle, bytesMax: ANSWER_BYTES_MAX });
    const isDone = this.until === "kept" || status === 200;
    return { lines: this.checker.check(address, batch, body, isDone ? this.until : "kept"), isDone };
  }
}

/** Whether the answer speaks of what was sent: one receipt an entry, of its hash; its proof leads to a head that the log signed. */
class LineChecker {
  private readonly vkey: Vkey;
  /** Entries of one batch are mostly proved in one head: its signature is verified once. */
  private opened: { readonly note: string; readonly checkpoint: Checkpoint } | null = null;

  constructor(vkey: Vkey) {
    this.vkey = vkey;
  }

  check(address: string, { count, hashes }: Batch, body: Uint8Array, until: Until): Line[] {
    const texts = new TextDecoder().decode(body).split("\n");
    texts.pop();
    if (texts.length !== count) throw new EngineError("FRAME_CORRUPT", `${address}: ${texts.length} receipts for ${count} entries`);
    return texts.map((text, i) => this.checkLine(address, text, hashes.subarray(i * HASH_BYTES, (i + 1) * HASH_BYTES), until));
  }

  private checkLine(address: string, text: string, leaf: Uint8Array, until: Until): Line {
    const value = parseLine(address, text);
    const receipt = until === "kept" ? value : (value["receipt"] as Readonly<Record<string, unknown>> | undefined);
    const hash = toHex(leaf);
    const told = receipt?.["leafHash"];
    if (told !== hash) throw new EngineError("LOG_ENTRY_MISMATCH", `${address}: the receipt is for ${String(told)}, the entry hashes to ${hash}`);
    if (until !== "signed") return { text, value, hash, proof: null };
    const proof = String(value["proof"]);
    this.checkProof(proof, leaf);
    return { text, value, hash, proof };
  }

  private checkProof(text: string, leaf: Uint8Array): void {
    const proof = parseProof(text);
    if (this.opened?.note !== proof.checkpoint) {
      this.opened = { note: proof.checkpoint, checkpoint: openProof(proof, { vkey: this.vkey, leaf }) };
      return;
    }
    const { size, root } = this.opened.checkpoint;
    checkInclusion({ index: proof.index, size, leaf, root, path: proof.path });
  }
}

function parseLine(address: string, text: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null) return value as Readonly<Record<string, unknown>>;
  } catch {
    // said below, with the line
  }
  throw new EngineError("FRAME_CORRUPT", `${address}: ${JSON.stringify(text.slice(0, 80))} is no receipt`);
}
