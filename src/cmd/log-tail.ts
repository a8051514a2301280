/**
 * `cairn log tail`: entries as they get signed. Each head's signature is verified, its tiles are proven up to its root,
 * each entry is hashed into its place, and each head must extend the one before: what is printed is in the log.
 */
import { X509Certificate } from "node:crypto";
import { equalBytes, fromUtf8, toBase64, toHex } from "../engine/base/bytes.ts";
import { EngineError } from "../engine/base/errors.ts";
import type { Checkpoint } from "../engine/log/checkpoint.ts";
import { BUNDLE_COUNT } from "../engine/log/entry.ts";
import { clusterSource, logOption, openLogAccess } from "./log-client.ts";
import { readHead } from "./log-head.ts";
import { type ProvenEntry, ProvenTiles } from "./proven-tiles.ts";
import { command } from "./spec.ts";

/** Without --from: as many as `tail` shows. */
const LAST_COUNT = 10;
const POLL_MS = 250;

export const logTail = command({
  name: "log tail",
  summary: "Print entries as they get signed, each one verified",
  args: [],
  options: [
    { name: "from", form: "count", value: "N", means: `begin at this index (else the last ${LAST_COUNT} entries)` },
    { name: "text", form: "flag", means: "show certificates, JSON and other text readable" },
    { name: "follow", short: "f", form: "flag", means: "go on with what is signed from now on, until a signal" },
    logOption,
  ],
  errors: ["UNAVAILABLE", "LOG_RANGE", "LOG_SIGNATURE", "LOG_ROOT_MISMATCH", "LOG_ENTRY_MISMATCH", "LOG_ENCODING"],
  examples: ["cairn log tail", "cairn log tail --from 0 --text", "cairn log tail --follow --json"],
  async run(ctx) {
    const { from, text, follow } = ctx.options;
    const signal = follow ? ctx.signal : null;
    const isOver = (): boolean => signal?.aborted === true;
    const access = await openLogAccess(ctx);
    const source = clusterSource(access);
    let { checkpoint: head } = await readHead(source, access.vkey);
    let next = from ?? Math.max(0, head.size - LAST_COUNT);
    if (next > head.size && !follow) throw new EngineError("LOG_RANGE", `--from ${next}: the log has ${head.size} signed entries`);
    let shown: Checkpoint | null = null;
    while (!isOver()) {
      if (head.size > (shown?.size ?? -1)) {
        const tiles = await ProvenTiles.open(source, head);
        if (shown !== null) await mustExtend(tiles, shown);
        for (; next < head.size && !isOver(); ) {
          const to = Math.min(head.size, (Math.floor(next / BUNDLE_COUNT) + 1) * BUNDLE_COUNT);
          const entries = await tiles.entries(next, to);
          await ctx.answer(
            entries.map((each) => entryRow(each, text)),
            entries.map((each) => entryLine(each, text)).join("\n"),
          );
          next = to;
        }
        shown = head;
      }
      if (signal === null) return;
      await pause(POLL_MS, signal);
      if (!isOver()) head = await newerHead(head, async () => (await readHead(source, access.vkey)).checkpoint);
    }
  },
});

/** A frontend that lags behind the one asked before is no rollback; nor is one that is away for a moment an end. */
async function newerHead(head: Checkpoint, read: () => Promise<Checkpoint>): Promise<Checkpoint> {
  try {
    const found = await read();
    if (found.size === head.size && !equalBytes(found.root, head.root))
      throw new EngineError("LOG_HEAD_FORK", `size ${head.size}: one head has root ${toHex(head.root)}, another ${toHex(found.root)}`);
    return found.size > head.size ? found : head;
  } catch (error) {
    if (error instanceof EngineError && (error.code === "UNAVAILABLE" || error.code === "TIMEOUT")) return head;
    throw error;
  }
}

async function mustExtend(tiles: ProvenTiles, old: Checkpoint): Promise<void> {
  const root = await tiles.compute((reader) => reader.rootAt(old.size));
  if (!equalBytes(root, old.root))
    throw new EngineError("LOG_HEAD_FORK", `size ${tiles.head.size} begins with root ${toHex(root)} at ${old.size}, shown before was ${toHex(old.root)}`);
}

const pause = (durationMs: number, signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    const end = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, durationMs);
    signal.addEventListener("abort", end);
  });

// ------------------------------------------------------------------ showing

type Readable =
  | {
      readonly kind: "certificate";
      readonly subject: string;
      readonly issuer: string;
      readonly validFrom: string;
      readonly validTo: string;
      readonly serial: string;
    }
  | { readonly kind: "json"; readonly text: string; readonly value: unknown }
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "bytes" };

export const entryRow = ({ index, leafHash, entry }: ProvenEntry, withText: boolean): object => ({
  index,
  leafHash: toHex(leafHash),
  bytes: entry.length,
  entry: toBase64(entry),
  ...(withText ? { content: readable(entry) } : {}),
});

export function entryLine({ index, leafHash, entry }: ProvenEntry, withText: boolean): string {
  return withText ? `${index}  ${readableLine(readable(entry), entry)}` : `${index}  ${toHex(leafHash)}  ${entry.length}`;
}

export function readable(entry: Uint8Array): Readable {
  const certificate = certificateOf(entry);
  if (certificate !== null) return certificate;
  const text = printable(entry);
  if (text === null) return { kind: "bytes" };
  if (/^[[{]/.test(text)) {
    try {
      return { kind: "json", text, value: JSON.parse(text) };
    } catch {
      // a text that begins like JSON
    }
  }
  return { kind: "text", text };
}

function certificateOf(entry: Uint8Array): Readable | null {
  if (entry[0] !== 0x30) return null; // DER of a sequence
  try {
    const { subject, issuer, validFromDate, validToDate, serialNumber } = new X509Certificate(entry);
    const [validFrom, validTo] = [validFromDate, validToDate].map((date) => date.toISOString()) as [string, string];
    return { kind: "certificate", subject: oneLine(subject), issuer: oneLine(issuer), validFrom, validTo, serial: serialNumber.toLowerCase() };
  } catch {
    return null; // not a certificate after all
  }
}

/** Names come from strangers: no line of theirs may look like one of ours. */
const oneLine = (name: string | undefined): string =>
  (name ?? "")
    .split("\n")
    .map((part) => part.replaceAll(CONTROL, "�"))
    .join(", ");

const CONTROL = /[\p{Cc}\p{Cf}\u2028\u2029]/gu;

/** Text without control characters other than tab and line ends, or null. */
function printable(entry: Uint8Array): string | null {
  try {
    const text = fromUtf8(entry);
    return text.replaceAll(/[\t\r\n]/g, "").search(CONTROL) < 0 ? text : null;
  } catch {
    return null;
  }
}

function readableLine(content: Readable, entry: Uint8Array): string {
  switch (content.kind) {
    case "certificate":
      return `certificate ${content.subject}\n    issuer ${content.issuer}\n    valid ${content.validFrom} to ${content.validTo}, serial ${content.serial}`;
    case "json": // as it was written: a number may have more digits than we can hold
    case "text":
      return content.text.trimEnd().replaceAll("\n", "\n    ");
    default:
      return `${entry.length} bytes  ${toHex(entry.subarray(0, 32))}${entry.length > 32 ? "…" : ""}`;
  }
}
