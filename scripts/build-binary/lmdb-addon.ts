/**
 * Stands in for `node-gyp-build-optional-packages` in the compiled binary (platform.md, "Building one binary"): lmdb
 * looks its native addon up by a computed path, which no bundler can follow; here the path is static, so it is embedded.
 * Bun unpacks an embedded addon into the temporary folder when it is first asked for: an unusable folder is said so.
 */
import { EngineError } from "../../src/engine/base/errors.ts";

// biome-ignore lint/style/noDefaultExport: lmdb imports its loader as the default
export default function loadAddon(): unknown {
  try {
    return require("cairn:lmdb-addon");
  } catch (cause) {
    const folder = process.env["BUN_TMPDIR"] ?? process.env["TMPDIR"] ?? "/tmp";
    const reason = cause instanceof Error ? (cause.message.split("\n", 1)[0] ?? "") : String(cause);
    throw new EngineError("TEMP_DIR_UNUSABLE", `the store's native code cannot be unpacked into ${folder}: ${reason}`, { cause });
  }
}
