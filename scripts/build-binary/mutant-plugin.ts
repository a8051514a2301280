/**
 * Bundler plugin that folds every `mutant("…")` of the engine to `false`: planted mistakes and their names exist only in a
 * source tree (architecture.md section 7), and test/binary.test.ts greps the binary for them. Lines stay where they are.
 */
import type { BunPlugin } from "bun";

const CALL = /\bmutant\("[^"\n]*"\)/g;

export const mutantPlugin: BunPlugin = {
  name: "mutants-off",
  setup(build) {
    build.onLoad({ filter: /[/\\]src[/\\]engine[/\\].*\.ts$/ }, async ({ path }) => ({
      contents: (await Bun.file(path).text()).replaceAll(CALL, "false"),
      loader: "ts",
    }));
  },
};
