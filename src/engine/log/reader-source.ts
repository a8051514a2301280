/**
 * A node's own rows as a published log: the paths of C2SP tlog-tiles, cut out of the packed tiles and bundles, for the
 * fsck of the node's own data and for writing a log out as plain files. Valid as long as the reader's snapshot.
 */
import { EngineError } from "../base/errors.ts";
import type { LogReader } from "./reader.ts";
import { parseTilePath } from "./tile.ts";
import type { LogSource } from "./verify.ts";

/** `checkpoint` is the note to serve; null where a path is none of the log's, or lies beyond what is stored. */
export function readerSource(reader: LogReader, checkpoint: Uint8Array): LogSource {
  return { read: async (path) => (path === "checkpoint" ? checkpoint : pieceAt(reader, path)) };
}

function pieceAt(reader: LogReader, path: string): Uint8Array | null {
  const address = parseTilePath(path);
  if (address === null) return null;
  const { level, n, width } = address;
  try {
    return level === "entries" ? reader.entryBundle(n, width) : reader.tile(level, n, width);
  } catch (cause) {
    if (cause instanceof EngineError && cause.code === "LOG_RANGE") return null;
    throw cause;
  }
}
