/**
 * Fixture clusters: a world line in file form, one `key = "value"` a word, with `area` first. Those of this project are
 * compiled in by name; any other is read from a file.
 */
import { readFile } from "node:fs/promises";
import mergeLone from "../../fixtures/clusters/merge-lone.toml";
import mergeThree from "../../fixtures/clusters/merge-three.toml";
import mergeWide from "../../fixtures/clusters/merge-wide.toml";
import { EngineError } from "../engine/base/errors.ts";
import { printCalls } from "../engine/sim/grammar.ts";

const builtIn: ReadonlyMap<string, unknown> = new Map(Object.entries({ "merge-lone": mergeLone, "merge-three": mergeThree, "merge-wide": mergeWide }));

const fixtureNames: readonly string[] = [...builtIn.keys()];

/** The world line of a fixture, by name or path. */
export async function worldLineOf(fixture: string): Promise<string> {
  return lineOf(fixture, builtIn.get(fixture) ?? parseToml(fixture, await read(fixture)));
}

async function read(fixture: string): Promise<string> {
  try {
    return await readFile(fixture, "utf8");
  } catch (cause) {
    throw new EngineError("NOT_FOUND", `fixture ${fixture}: neither a file nor one of ${fixtureNames.join(", ")}`, { cause });
  }
}

function parseToml(fixture: string, text: string): unknown {
  try {
    return Bun.TOML.parse(text);
  } catch (cause) {
    throw new EngineError("PARSE", `fixture ${fixture}: ${cause instanceof Error ? cause.message : "no TOML"}`, { cause });
  }
}

function lineOf(fixture: string, parsed: unknown): string {
  const entries = typeof parsed === "object" && parsed !== null ? Object.entries(parsed) : [];
  const words = entries.map(([key, value]: [string, unknown]) => {
    if (typeof value !== "string" && typeof value !== "number") throw new EngineError("PARSE", `fixture ${fixture}: ${key} is neither a text nor a number`);
    return { key, value: String(value) };
  });
  const area = words.find(({ key }) => key === "area");
  if (area === undefined) throw new EngineError("PARSE", `fixture ${fixture}: area is missing`);
  return printCalls([[{ key: null, value: "world" }, { key: null, value: area.value }, ...words.filter((word) => word !== area)]]);
}
