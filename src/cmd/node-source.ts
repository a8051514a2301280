/**
 * A node's own rows as a published log, for the fsck: tiles and entries as they rest in its folder, the newest head that
 * it published, cosigned or signed, and older heads by their size. A damaged row is named by its path as well.
 */

import { utf8 } from "../engine/base/bytes.ts";
import type { Snapshot } from "../engine/base/effects.ts";
import { EngineError } from "../engine/base/errors.ts";
import { proofText } from "../engine/gateway/loghttp.ts";
import { LogReader } from "../engine/log/reader.ts";
import { readerSource } from "../engine/log/reader-source.ts";
import type { LogSource } from "../engine/log/verify.ts";
import type { MergeConfig } from "../engine/merge/config.ts";
import { rows } from "../engine/merge/records.ts";

export function nodeSource(snap: Snapshot, config: MergeConfig): LogSource {
  const head = newestHead(snap, config);
  const tiles = readerSource(new LogReader(snap, config.log), head ?? new Uint8Array(0));
  return {
    async read(path) {
      if (path === "checkpoint") return head;
      const size = /^proof\?index=0&size=([1-9][0-9]*)$/.exec(path)?.[1];
      try {
        if (size === undefined) return await tiles.read(path);
        const older = rows.head(snap, config.log, Number(size));
        return older === null ? null : utf8(proofText(snap, config, 0, older));
      } catch (cause) {
        if (cause instanceof EngineError && cause.code === "STORE_CORRUPT") throw new EngineError(cause.code, `${path}: ${cause.message}`, { cause });
        throw cause;
      }
    },
  };
}

function newestHead(snap: Snapshot, { log }: MergeConfig): Uint8Array | null {
  const heads = [rows.published(snap, log), rows.cosigned(snap, log), rows.register(snap, log)?.head ?? null];
  const [newest] = heads.filter((head) => head !== null).sort((a, b) => b.size - a.size);
  return newest?.note ?? null;
}
