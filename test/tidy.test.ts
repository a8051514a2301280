/**
 * The tree keeps its own rules (test/tidy/rules.ts), and each rule can fail: a planted mistake is found, at its line, and
 * the nearest innocent text is not.
 */
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { codeOnly } from "./tidy/code-only.ts";
import { type Finding, formatFinding, type Source, tidy } from "./tidy/rules.ts";

const root = join(import.meta.dir, "..");
const readTree = (): Source[] =>
  [
    ...new Bun.Glob("{src,test,scripts}/**/*.{ts,mjs}").scanSync(root),
    ...new Bun.Glob("*.{md,json}").scanSync(root),
    ...new Bun.Glob("fixtures/**/*.{txt,toml,md}").scanSync(root),
  ]
    .sort()
    .map((path) => ({ path, text: readFileSync(join(root, path), "utf8") }));

test("the tree is tidy", () => {
  expect(tidy(readTree()).map(formatFinding).join("\n")).toBe("");
});

const HEADER = "/**\n * What this is.\n */\n";
const file = (path: string, body: string): Source => ({ path, text: HEADER + body });
const main = (...imports: string[]): Source => file("src/cmd/main.ts", imports.map((path) => `import "${path}";\n`).join(""));
const lines = (found: readonly Finding[]): string[] => found.map(({ path, line, what }) => `${path}:${line}: ${what}`);

describe("each rule finds a planted mistake", () => {
  const reach = (path: string): Source => main(path.replace("src/", "../"));
  const cases: readonly (readonly [string, readonly Source[], readonly string[]])[] = [
    [
      "an import that goes up",
      [
        main("../engine/log/a.ts", "../engine/merge/b.ts"),
        file("src/engine/log/a.ts", 'import type { B } from "../merge/b.ts";\n'),
        file("src/engine/merge/b.ts", ""),
      ],
      ["src/engine/log/a.ts:4: log imports merge, which lies above it"],
    ],
    [
      "an import of a neighbour, spread over lines",
      [
        main("../engine/log/a.ts", "../engine/sync/b.ts"),
        file("src/engine/log/a.ts", 'export {\n  b,\n} from "../sync/b.ts";\n'),
        file("src/engine/sync/b.ts", ""),
      ],
      ["src/engine/log/a.ts:6: log imports sync of the same layer"],
    ],
    [
      "the real driver in the simulator, even asked for late",
      [main("../engine/sim/a.ts"), file("src/engine/sim/a.ts", 'const driver = await import("../node/driver.ts");\n'), file("src/engine/node/driver.ts", "")],
      ["src/engine/sim/a.ts:4: the simulator imports src/engine/node/driver.ts"],
    ],
    [
      "a cycle",
      [main("../engine/log/a.ts"), file("src/engine/log/a.ts", 'import "./b.ts";\n'), file("src/engine/log/b.ts", 'import { type A, a } from "./a.ts";\n')],
      ["src/engine/log/b.ts:4: import cycle: src/engine/log/a.ts → src/engine/log/b.ts → src/engine/log/a.ts"],
    ],
    [
      "a file that only a test reaches",
      [main(), file("src/engine/log/a.ts", ""), file("test/a.test.ts", 'import "../src/engine/log/a.ts";\n')],
      ["src/engine/log/a.ts:1: neither the binary nor a script imports this file"],
    ],
    ["a file of the tests that none imports", [file("test/contract/a.ts", "")], ["test/contract/a.ts:1: no test imports this file"]],
    [
      "a built-in with I/O in a core",
      [reach("src/engine/log/a.ts"), file("src/engine/log/a.ts", 'import { readFileSync } from "node:fs";\n')],
      ["src/engine/log/a.ts:4: imports node:fs"],
    ],
    [
      "lmdb outside its file",
      [reach("src/engine/log/a.ts"), file("src/engine/log/a.ts", 'import { open } from "lmdb";\n')],
      ["src/engine/log/a.ts:4: imports the package lmdb"],
    ],
    [
      "a package nobody decided on",
      [reach("src/engine/node/a.ts"), file("src/engine/node/a.ts", 'import x from "left-pad";\n')],
      ["src/engine/node/a.ts:4: imports the package left-pad"],
    ],
    ["a header that is missing", [{ path: "src/cmd/main.ts", text: "// main\n" }], ["src/cmd/main.ts:1: has no header"]],
    ["a default export", [file("src/cmd/main.ts", "const a = 1;\nexport default a;\n")], ["src/cmd/main.ts:5: has a default export"]],
    ["a test that hides the others", [file("test/a.test.ts", 'test.only("a", () => {});\n')], ["test/a.test.ts:4: has a test marked only"]],
    ["a test that is skipped", [file("test/a.test.ts", 'describe.skip("a", () => {});\n')], ["test/a.test.ts:4: has a test marked skip"]],
    [
      "a vague name",
      [file("src/cmd/main.ts", 'import "./string-utils.ts";\n'), file("src/cmd/string-utils.ts", "")],
      ["src/cmd/string-utils.ts:1: is named after nothing in particular"],
    ],
    ["a note to self", [file("src/cmd/main.ts", `// ${"TO"}${"DO"}: later\n`)], [`src/cmd/main.ts:4: says ${"TO"}${"DO"}`]],
    [
      "a path of one machine",
      [file("src/cmd/main.ts", `const a = "/${"home"}/ada/cairn";\n`)],
      [`src/cmd/main.ts:4: names a path of one machine: /${"home"}/ada/c…`],
    ],
  ];
  for (const [title, sources, expected] of cases) test(title, () => expect(lines(tidy(sources))).toEqual([...expected]));

  for (const name of [
    "Date.now()",
    "Math.random()",
    "setTimeout(f, 1)",
    "setInterval(f, 1)",
    "fetch(url)",
    "process.env",
    "process.exit(1)",
    "performance.now()",
    "Bun.sleep(1)",
    "console.log(1)",
    "Buffer.alloc(1)",
  ])
    test(`${name} in a core`, () => {
      const found = tidy([reach("src/engine/log/a.ts"), file("src/engine/log/a.ts", `const text = \`a \${${name}} b\`;\n`)]);
      expect(lines(found)).toEqual([
        `src/engine/log/a.ts:4: says ${name.replace(/\(\d?\)$|\((?:f, 1|url)\)$/, "")}${name.startsWith("fetch") ? "(" : ""}`.replace("Buffer.alloc", "Buffer"),
      ]);
    });
});

test("what only looks like a mistake is left alone", () => {
  // biome-ignore-start lint/suspicious/noTemplateCurlyInString: it is source text
  const body = [
    "// Date.now() in a comment, Buffer too",
    'const a = "Math.random()", b = /fetch\\(["\'`]/, c = `process.env ${"}"} setTimeout`;',
    "const d = b.test(a) ? 1 / 2 / 3 : x.fetch(c), ArrayBuffer_ = ArrayBuffer, node = it.process.env;",
    "/* import './nothing.ts' */",
  ].join("\n");
  // biome-ignore-end lint/suspicious/noTemplateCurlyInString: it is source text
  expect(lines(tidy([main("../engine/log/a.ts"), file("src/engine/log/a.ts", body)]))).toEqual([]);
});

test("blanking keeps every character's place", () => {
  for (const { text } of readTree().filter(({ path }) => path.endsWith(".ts"))) {
    const code = codeOnly(text);
    expect(code.length).toBe(text.length);
    expect(code.split("\n").length).toBe(text.split("\n").length);
  }
});
