/**
 * `log.find`: where entries stand, by leaf hash; answered by any node from its own index and heads. Pure reads.
 */
import type { Snapshot } from "../base/effects.ts";
import { find } from "../log/hash-index.ts";
import { LogReader } from "../log/reader.ts";
import type { AnswerOf } from "../wire/messages.ts";
import type { MergeConfig } from "./config.ts";
import { readEdge, rows } from "./records.ts";

/** One index or null each, in asked order, with the sizes they are to be held against. */
export function findEntries(snap: Snapshot, config: MergeConfig, hashes: Uint8Array): AnswerOf<"log.found"> {
  const reader = new LogReader(snap, config.log);
  const indexes = find(snap, config.log, "i", hashes, (index) => reader.orderHashes(index, index + 1));
  return {
    kind: "log.found",
    indexes: Array.from(indexes, (index) => (index < 0 ? null : index)),
    currentSize: readEdge(snap, config.log).size,
    signedSize: rows.published(snap, config.log)?.size ?? 0,
  };
}
