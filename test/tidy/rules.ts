/**
 * The rules that neither the compiler nor the linter holds us to (architecture.md sections 1 and 2, style.md section 3):
 * who may import whom, which names only the drivers may say, what every file carries. Each rule is a function from
 * sources to findings; `test/tidy.test.ts` runs them on the tree and on planted mistakes.
 */
import { basename, dirname, join } from "node:path";
import { codeOnly } from "./code-only.ts";

export type Source = { readonly path: string; readonly text: string };
export type Finding = { readonly path: string; readonly line: number; readonly what: string; readonly remedy: string };
type Import = {
  readonly from: Source;
  readonly line: number;
  readonly wanted: string;
  /** `import type` is gone at run time: it counts for layers, not for cycles. */
  readonly typeOnly: boolean;
  /** Path in the tree, or null for a package. */
  readonly to: string | null;
};

/** Lower may not import higher; folders of one row never import each other, except where `SIDEWAYS` says so. */
const LAYERS: readonly (readonly string[])[] = [
  ["base"],
  ["store", "wire"],
  ["paxos", "sync", "log", "volume"],
  ["merge", "table"],
  ["gateway"],
  ["node"],
  ["sim"],
  ["repl"],
  ["cmd"],
];
/** The simulator runs the shipping cores without ever touching what performs effects for real. */
const NOT_FOR_SIM = /^src\/engine\/node\/(driver|listen|daemon|link|disk)\.ts$/;
/** Computation only: these built-ins know no clock, socket, file or process. */
const PURE_BUILTINS: readonly string[] = ["node:crypto", "node:zlib", "node:path"];
/** The store on disk is LMDB, its data file and their bytes; all else in store/ is computation. */
const STORE_ON_DISK = /^src\/engine\/store\/lmdb(-\w+)*\.ts$/;
const PACKAGES: Readonly<Record<string, RegExp>> = {
  lmdb: STORE_ON_DISK,
  tweetnacl: /^src\/engine\/(wire|node)\//,
  cac: /^src\/cmd\//,
  "@clack/prompts": /^src\/(cmd|repl)\//,
};
const TOP = /^src\/(cmd|repl)\//;
const WORLD = /^src\/(engine\/node|cmd|repl)\//;
const BANNED_NAMES =
  /(?<![\w.])(Date\.now|new Date\(\)|Math\.random|setTimeout|setInterval|setImmediate|fetch\(|process\.(?:env|exit|exitCode|argv|execPath|hrtime|pid|stdout|stderr|stdin|cwd|chdir|kill|uptime|nextTick|memoryUsage|cpuUsage)\b|performance\.now|Bun\.(?:sleep|nanoseconds|serve|listen|connect|spawn|spawnSync|file|write|env)|crypto\.getRandomValues|randomBytes|randomUUID|console\.\w+)/g;
const HEADER = /^\/\*\*\n( \*.*\n)+? \*\/\n/;
const ANY_COMMENT = /^\/(\*\*|\/) \S|^\/\*\*\n/;
const VAGUE_NAME = /(^|[/-])(utils?|helpers?|managers?|common|misc|shared)([-./]|$)/;

export function tidy(sources: readonly Source[]): Finding[] {
  const code = sources.filter(({ path }) => /\.(ts|mjs)$/.test(path));
  const imports = code.flatMap(importsOf);
  const found = [...layerRules(imports), ...cycles(imports), ...unreached(code, imports)];
  for (const source of code) found.push(...bannedNames(source), ...headers(source), ...defaultExports(source), ...testMarks(source));
  for (const source of sources) found.push(...fileNames(source), ...leftovers(source));
  return found.sort((a, b) => (a.path === b.path ? a.line - b.line : a.path < b.path ? -1 : 1));
}

export const formatFinding = ({ path, line, what, remedy }: Finding): string => `${path}:${line}: ${what}\n    ${remedy}`;

function importsOf(from: Source): Import[] {
  const text = codeOnly(from.text, { keepStrings: true });
  const found = text.matchAll(/(?:^\s*(?:import|export)\b[^;"'`]*?from\s*|^\s*import\s*|\bimport\(\s*)["']([^"'\n]+)["']/gm);
  return [...found].map((match) => {
    const wanted = match[1] ?? "";
    const at = match.index + match[0].lastIndexOf(wanted);
    const typeOnly = /^\s*(?:import|export)\s+type\b/.test(match[0]);
    return { from, line: lineAt(text, at), wanted, typeOnly, to: wanted.startsWith(".") ? join(dirname(from.path), wanted) : null };
  });
}

function layerRules(imports: readonly Import[]): Finding[] {
  return imports.flatMap((each) => {
    const { from, line, wanted, to } = each;
    const finding = (what: string, remedy: string): Finding[] => [{ path: from.path, line, what, remedy }];
    if (!from.path.startsWith("src/")) return [];
    if (to === null) return packageRule(each, finding);
    if (to.startsWith("fixtures/") && TOP.test(from.path)) return []; // fixture clusters are embedded in the binary
    if (!to.startsWith("src/")) return finding(`imports ${wanted}, outside src`, "what ships lives in src");
    if (from.path.startsWith("src/engine/sim/") && NOT_FOR_SIM.test(to))
      return finding(`the simulator imports ${to}`, "build nodes through node/assemble.ts; effects are performed by sim/world.ts");
    const [mine, theirs] = [rankOf(from.path), rankOf(to)];
    if (mine === null || theirs === null)
      return finding(`${mine === null ? from.path : to} is in no layer`, "put it in a folder of architecture.md section 2, or add the folder to LAYERS here");
    if (folderOf(from.path) === folderOf(to)) return [];
    if (theirs > mine)
      return finding(
        `${folderOf(from.path)} imports ${folderOf(to)}, which lies above it`,
        "imports go down only: move what is shared to the lower layer, or pass it in from node/assemble.ts",
      );
    if (theirs === mine)
      return finding(`${folderOf(from.path)} imports ${folderOf(to)} of the same layer`, "neighbours never import each other: move what is shared down");
    return [];
  });
}

function packageRule({ from, wanted }: Import, finding: (what: string, remedy: string) => Finding[]): Finding[] {
  if (wanted.startsWith("node:") || wanted.startsWith("bun:"))
    return PURE_BUILTINS.includes(wanted) || WORLD.test(from.path) || (wanted === "node:fs" && STORE_ON_DISK.test(from.path))
      ? []
      : finding(`imports ${wanted}`, "files, sockets, clocks and processes belong to src/engine/node: ask for an effect instead");
  const allowed = PACKAGES[wanted];
  if (allowed === undefined) return finding(`imports the package ${wanted}`, "a new dependency is a decision: add it to ARCHITECTURE.md and to PACKAGES here");
  return allowed.test(from.path) ? [] : finding(`imports the package ${wanted}`, `only ${allowed.source} may`);
}

function cycles(imports: readonly Import[]): Finding[] {
  const edges = Map.groupBy(
    imports.filter(({ to, typeOnly }) => to !== null && !typeOnly),
    ({ from }) => from.path,
  );
  const done = new Set<string>();
  const found: Finding[] = [];
  const walk = (path: string, trail: readonly string[]): void => {
    if (done.has(path)) return;
    for (const { to, line } of edges.get(path) ?? []) {
      if (to === null) continue;
      const start = [...trail, path].indexOf(to);
      if (start !== -1)
        found.push({
          path,
          line,
          what: `import cycle: ${[...[...trail, path].slice(start), to].join(" → ")}`,
          remedy: "move what both need into a third file below them",
        });
      else walk(to, [...trail, path]);
    }
    done.add(path);
  };
  for (const path of edges.keys()) walk(path, []);
  return found;
}

/** What neither the binary nor a script reaches does not ship: tests alone keep nothing alive. */
function unreached(sources: readonly Source[], imports: readonly Import[]): Finding[] {
  const reached = new Set(sources.filter(({ path }) => path === "src/cmd/main.ts" || path.startsWith("scripts/")).map(({ path }) => path));
  for (const path of reached) for (const { from, to } of imports) if (from.path === path && to !== null) reached.add(to);
  const imported = new Set(imports.map(({ to }) => to));
  const started = (path: string): boolean => sources.some(({ text }) => text.includes(`"${basename(path)}"`)); // a program that a test runs
  return sources.flatMap(({ path }) => {
    if (path.startsWith("src/") && !reached.has(path))
      return [{ path, line: 1, what: "neither the binary nor a script imports this file", remedy: "delete it, or import it where it is needed" }];
    if (path.startsWith("test/") && !/(\.test|bench)\.ts$/.test(path) && !imported.has(path) && !started(path))
      return [{ path, line: 1, what: "no test imports this file", remedy: "delete it, or name it *.test.ts, or bench.ts if it is run by hand" }];
    return [];
  });
}

function bannedNames(source: Source): Finding[] {
  if (!source.path.startsWith("src/")) return [];
  const code = codeOnly(source.text);
  const found: Finding[] = [];
  const report = (match: RegExpExecArray, remedy: string): void =>
    void found.push({ path: source.path, line: lineAt(code, match.index), what: `says ${match[0]}`, remedy });
  if (!WORLD.test(source.path))
    for (const match of code.matchAll(BANNED_NAMES))
      report(match, "a core knows no clock, dice, environment or I/O: take it from the event, or ask the driver with an effect");
  if (!source.path.startsWith("src/engine/node/") && !STORE_ON_DISK.test(source.path))
    for (const match of code.matchAll(/(?<![\w.])Buffer\b/g)) report(match, "signatures say Uint8Array; Buffer stays inside node/ and store/lmdb.ts");
  return found;
}

function headers({ path, text }: Source): Finding[] {
  if (path.endsWith(".test.ts")) return []; // its tests' names say what it is
  const header = path.startsWith("src/") ? HEADER : ANY_COMMENT;
  if (header.test(text)) return [];
  return [{ path, line: 1, what: "has no header", remedy: "begin with a comment of 3 to 8 lines: what this is, which section it follows, what it never does" }];
}

function defaultExports({ path, text }: Source): Finding[] {
  const code = codeOnly(text);
  return [...code.matchAll(/^[ \t]*export\s+default\b|\bas\s+default\b/gm)].flatMap(({ index }) => {
    const line = lineAt(code, index);
    const before = text.split("\n")[line - 2] ?? "";
    return /biome-ignore lint\/style\/noDefaultExport: \S/.test(before) ? [] : [{ path, line, what: "has a default export", remedy: "export it by name" }];
  });
}

function testMarks({ path, text }: Source): Finding[] {
  if (!path.startsWith("test/")) return [];
  const code = codeOnly(text);
  return [...code.matchAll(/\b(?:test|it|describe)(?:\.\w+)*\.(only|skip|todo)\b/g)].map(({ index, 1: mark }) => ({
    path,
    line: lineAt(code, index),
    what: `has a test marked ${mark}`,
    remedy: mark === "only" ? "remove the mark: it hides every other test" : "fix it or delete it; a missing tool is test.skipIf(…) with its name in the title",
  }));
}

const fileNames = ({ path }: Source): Finding[] =>
  VAGUE_NAME.test(path) ? [{ path, line: 1, what: "is named after nothing in particular", remedy: "name it after its main export" }] : [];

/** Notes to self, and paths of somebody's machine. */
function leftovers({ path, text }: Source): Finding[] {
  const found: Finding[] = [];
  for (const [index, line] of text.split("\n").entries()) {
    const note = /\b(?:TODO|FIXME|XXX|HACK)\b/.exec(line);
    if (note !== null && !path.endsWith("tidy/rules.ts"))
      found.push({ path, line: index + 1, what: `says ${note[0]}`, remedy: "do it, or state the gap as `Gap: …`" });
    const home = /(?<![\w$.])\/(?:root|work|home\/\w+|Users\/\w+)\/\w/.exec(line);
    if (home !== null) found.push({ path, line: index + 1, what: `names a path of one machine: ${home[0]}…`, remedy: "make it relative to the repository" });
  }
  return found;
}

const folderOf = (path: string): string => /^src\/(?:engine\/)?([^/]+)\//.exec(path)?.[1] ?? path;

function rankOf(path: string): number | null {
  const rank = LAYERS.findIndex((row) => row.includes(folderOf(path)));
  return rank === -1 ? null : rank;
}

const lineAt = (text: string, index: number): number => text.slice(0, index).split("\n").length;
