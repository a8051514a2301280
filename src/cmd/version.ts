/**
 * Which build this is. The three names are replaced by the build (scripts/build-binary/build.ts); in a source tree
 * they do not exist.
 */
declare const CAIRN_VERSION: string;
declare const CAIRN_COMMIT: string;
declare const CAIRN_LOCK_HASH: string;

const build = {
  version: typeof CAIRN_VERSION === "undefined" ? "0.0.0" : CAIRN_VERSION,
  commit: typeof CAIRN_COMMIT === "undefined" ? "source" : CAIRN_COMMIT,
  lockHash: typeof CAIRN_LOCK_HASH === "undefined" ? "none" : CAIRN_LOCK_HASH,
} as const;

export const versionLine = `cairn ${build.version} (${build.commit}, ${build.lockHash})`;
