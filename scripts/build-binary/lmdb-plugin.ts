/**
 * Bundler plugin that embeds lmdb's native addon: the loader package is replaced by `lmdb-addon.ts`, and the addon it
 * requires resolves to the one prebuilt file for the platform that is built for. Only the Node-API build will do.
 */
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import type { BunPlugin } from "bun";

export function lmdbAddonPlugin(platform: string): BunPlugin {
  return {
    name: "lmdb-addon",
    setup(build) {
      build.onResolve({ filter: /^node-gyp-build-optional-packages$/ }, ({ importer }) =>
        /[/\\]lmdb[/\\]/.test(importer) ? { path: join(import.meta.dir, "lmdb-addon.ts") } : undefined,
      );
      build.onResolve({ filter: /^cairn:lmdb-addon$/ }, () => ({ path: addonPath(platform) }));
    },
  };
}

/** The addon package hangs below lmdb, wherever npm put it. */
function addonPath(platform: string): string {
  const fromLmdb = createRequire(createRequire(import.meta.url).resolve("lmdb"));
  return join(dirname(fromLmdb.resolve(`@lmdb/lmdb-${platform}/package.json`)), "node.napi.glibc.node");
}
