/**
 * The messages of the wire, requests and answers: those of the merge (merge.md section 2) here, those of Paxos in
 * `paxos-messages.ts`, of store synchronisation in `sync-messages.ts`. Every request of the merge carries `log` (8-byte id) and `epoch`; the request id travels in the
 * frame and comes back with the answer. Ranges are `[from, to)`.
 * Limits are checked before allocation: bundle 1 MiB, 8,192 hashes, 1,024 ranges, proofs of 63 hashes.
 */
import { fromUtf8, utf8 } from "../base/bytes.ts";
import { EngineError, errorCodeOf } from "../base/errors.ts";
import { bytes, fixed, flag, hashes, list, type MessageOf, messages, nullable, struct, text, u8, u32, u53 } from "./codec.ts";
import { paxosAnswers, paxosRequests } from "./paxos-messages.ts";
import { syncAnswers, syncRequests } from "./sync-messages.ts";

/** A bundle on the wire: never less than one entry, so a little above the 1 MiB of entries that senders aim for. */
export const BUNDLE_BYTES_MAX = 1_024 * 1_024;
export const LIST_COUNT_MAX = 8_192;
export const GET_COUNT_MAX = 1_024;
export const RANGE_COUNT_MAX = 1_024;
export const PROOF_COUNT_MAX = 63;
const NOTE_BYTES_MAX = 64 * 1_024;
const REFUSAL_TEXT_BYTES_MAX = 1_024;

const hash = fixed(32);
const logId = fixed(8);
const name = text(32);
const bundle = bytes(BUNDLE_BYTES_MAX + 65_537);
const scope = { log: logId, epoch: u53 };
/** Names the disk that a storage node's sequence numbers count on: they mean nothing on another one. */
const born = text(64);
const pair = struct({ number: u32, k: u32, secondaries: list(name, 64) });
const sizeAndRoot = { size: u53, root: hash };

export const requests = messages({
  "storage.put": [1, { ...scope, bundle }],
  "storage.list": [2, { ...scope, fromSeq: u53, limit: u32 }],
  "storage.get": [3, { ...scope, hashes: hashes(GET_COUNT_MAX) }],
  "storage.settle": [4, { ...scope, born, settledSeq: u53 }],
  "storage.ready": [5, { ...scope, lastSeq: u53 }],
  "log.find": [6, { ...scope, hashes: hashes(GET_COUNT_MAX) }],
  "copy.where": [7, { ...scope }],
  "copy.order": [8, { ...scope, start: u53, hashes: hashes(LIST_COUNT_MAX) }],
  "copy.missing": [9, { ...scope, from: u53, to: u53 }],
  "copy.entries": [10, { ...scope, start: u53, bundle }],
  "copy.read": [11, { ...scope, from: u53, to: u53, what: u8, level: u8 }],
  "backup.verify": [12, { ...scope, ...sizeAndRoot, number: u32, k: u32, secondaries: list(name, 64), floor: u53 }],
  "backup.head": [13, { ...scope, checkpoint: bytes(NOTE_BYTES_MAX), proof: hashes(PROOF_COUNT_MAX) }],
  "dist.publish": [14, { ...scope, checkpoint: bytes(NOTE_BYTES_MAX), proof: hashes(PROOF_COUNT_MAX) }],
  "merge.fence": [15, { ...scope, primary: name }],
  "register.read": [16, { ...scope }],
  "register.swap": [
    17,
    { ...scope, expect: nullable(struct(sizeAndRoot)), next: struct({ epoch: u53, ...sizeAndRoot, note: bytes(NOTE_BYTES_MAX), timeMs: u53 }) },
  ],
  ...paxosRequests,
  ...syncRequests,
});
export type Request = MessageOf<typeof requests>;
export type RequestOf<Kind extends Request["kind"]> = Extract<Request, { kind: Kind }>;

const head = struct({ epoch: u53, ...sizeAndRoot, note: bytes(NOTE_BYTES_MAX), timeMs: u53 });

export const answers = messages({
  "storage.kept": [101, { count: u32 }],
  "storage.listed": [102, { hashes: hashes(LIST_COUNT_MAX), bytes: list(u32, LIST_COUNT_MAX), born, nextSeq: u53, lastSeq: u53, oldestPendingSeq: u53 }],
  /** The first `served` of the hashes asked for, less the absent ones, in asked order; the rest is asked again. */
  "storage.entries": [103, { bundle, served: u32, absent: list(u32, GET_COUNT_MAX) }],
  "storage.settled": [104, { settledSeq: u53 }],
  "storage.noted": [105, {}],
  "log.found": [106, { indexes: list(nullable(u53), GET_COUNT_MAX), currentSize: u53, signedSize: u53 }],
  "copy.at": [
    107,
    {
      orderSize: u53,
      storedSize: u53,
      verifiedSize: u53,
      verifiedRoot: hash,
      headSize: u53,
      headRoot: hash,
      publishedSize: u53,
      epoch: u53,
      pairs: list(pair, 8),
    },
  ],
  "copy.ordered": [108, { orderSize: u53 }],
  "copy.lacking": [109, { ranges: list(struct({ from: u53, to: u53 }), RANGE_COUNT_MAX), scannedTo: u53 }],
  "copy.stored": [110, { from: u53, to: u53 }],
  "copy.piece": [111, { bytes: bundle }],
  "backup.verified": [112, { ...sizeAndRoot }],
  "backup.cosigned": [113, { line: text(1_024) }],
  "dist.published": [114, { size: u53 }],
  "merge.fenced": [115, { epoch: u53, verifiedSize: u53, verifiedRoot: hash, head: nullable(head), pairs: list(pair, 8), covered: u32 }],
  "register.is": [116, { head: nullable(head), epoch: u53, primary: name }],
  "register.swapped": [117, { head: nullable(head), epoch: u53, primary: name }],
  "register.conflict": [118, { head: nullable(head), epoch: u53, primary: name }],
  "register.unknown": [119, {}],
  /** An error code of `base/errors.ts` with the values that disagree; unused fields are 0, empty or absent. */
  refused: [
    120,
    {
      code: text(64),
      text: text(REFUSAL_TEXT_BYTES_MAX),
      size: u53,
      index: u53,
      epoch: u53,
      primary: text(32),
      mine: bytes(32),
      yours: bytes(32),
      retry: flag,
    },
  ],
  ...paxosAnswers,
  ...syncAnswers,
});
export type Answer = MessageOf<typeof answers>;
export type AnswerOf<Kind extends Answer["kind"]> = Extract<Answer, { kind: Kind }>;

/** The longest prefix of whole characters within `bytesMax` bytes of UTF-8: a detail may quote names of any script. */
function clip(detail: string, bytesMax: number): string {
  const raw = utf8(detail);
  if (raw.length <= bytesMax) return detail;
  let end = bytesMax;
  while (((raw[end] ?? 0) & 0xc0) === 0x80) end--;
  return fromUtf8(raw.subarray(0, end));
}

/** A refusal with only the fields that matter. */
export function refused(code: string, detail: string, fields: Partial<Omit<AnswerOf<"refused">, "kind" | "code" | "text">> = {}): AnswerOf<"refused"> {
  const none = new Uint8Array(0);
  return {
    kind: "refused",
    code,
    text: clip(detail, REFUSAL_TEXT_BYTES_MAX),
    size: 0,
    index: 0,
    epoch: 0,
    primary: "",
    mine: none,
    yours: none,
    retry: false,
    ...fields,
  };
}

/** What a refusal is to whoever asked and cannot go on. */
export const refusalError = ({ code, text }: Pick<AnswerOf<"refused">, "code" | "text">): EngineError => new EngineError(errorCodeOf(code), text);
