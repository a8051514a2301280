/**
 * The digest of a snapshot in steps (sync.md sections 2.6 and 4.5): both sides of a verification read their whole store, and
 * neither may stop its event loop for it. A scan is plain data beside a view; whoever opened the view closes it.
 */
import { readU32be } from "../base/bytes.ts";
import { digestRow, newDigestBuild } from "../store/digest.ts";
import { SCAN_ROWS_MAX, type Scan, type SyncConfig, type Turn } from "./state.ts";

/** So that no stranger can choose keys that end no run. */
export const seedOf = ({ cluster }: SyncConfig): number => readU32be(cluster, 0);

export const newScan = (config: SyncConfig, view: number, version: number): Scan => ({
  view,
  version,
  build: newDigestBuild(seedOf(config)),
  at: new Uint8Array(0),
});

/** Reads on; true when the last row is digested. */
export function scanOn({ ports }: Turn, scan: Scan): boolean {
  let count = 0;
  for (const [key, stored] of ports.views.read(scan.view).peekStored(scan.at, undefined, { limit: SCAN_ROWS_MAX + 1 })) {
    scan.at = key;
    if (count++ === SCAN_ROWS_MAX) return false;
    digestRow(scan.build, key, stored);
  }
  return true;
}
