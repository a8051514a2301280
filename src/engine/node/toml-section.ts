/**
 * Strict reading of a TOML file: every key is taken once by the code that knows it, and what nobody took is refused
 * with BAD_CONFIG naming file, line and key. Each taken setting remembers where its value came from, for
 * `config show --origin`. Knows nothing about what the settings mean.
 */
import { EngineError } from "../base/errors.ts";

/** Bounds the search for a bad line, which is quadratic. */
const LINES_TRIED_MAX = 2_000;

/** One setting as it is in force. `origin` is `config.toml:12`, or says in words why the value is what it is. */
export type Setting = { readonly key: string; readonly value: string; readonly origin: string };

/** A form that a value must have: the parsed value, or null where it has not. */
export type Form<T> = { readonly what: string; parse(value: unknown): T | null };

export const textForm = (what: string, pattern: RegExp): Form<string> => ({
  what,
  parse: (value) => (typeof value === "string" && pattern.test(value) ? value : null),
});
export const countForm = (least: number, most: number): Form<number> => ({
  what: `a whole number from ${least} to ${most}`,
  parse: (value) => (typeof value === "number" && Number.isSafeInteger(value) && value >= least && value <= most ? value : null),
});
export const choiceForm = <T extends string>(...choices: readonly T[]): Form<T> => ({
  what: `one of ${choices.join(", ")}`,
  parse: (value) => choices.find((choice) => choice === value) ?? null,
});
export const listForm = <T>(item: Form<T>): Form<readonly T[]> => ({
  what: `a list of: ${item.what}`,
  parse(value) {
    if (!Array.isArray(value)) return null;
    const items: T[] = [];
    for (const each of value) {
      const parsed = item.parse(each);
      if (parsed === null) return null;
      items.push(parsed);
    }
    return items;
  },
});

/** A whole file; `settings` grows in the order the keys are taken. */
export class TomlFile {
  readonly settings: Setting[] = [];
  /** Name for messages: the path. */
  readonly file: string;
  readonly root: TomlSection;
  private readonly lines: readonly string[];

  constructor(file: string, text: string) {
    this.file = file;
    this.lines = text.split("\n");
    this.root = new TomlSection(this, "", 0, parseToml(file, text));
  }

  refuse(line: number, detail: string): never {
    throw new EngineError("BAD_CONFIG", `${this.file}${line > 0 ? `:${line}` : ""}: ${detail}`);
  }

  /** Line of the `count`-th header `[name]` or `[[name]]`, counted from 0; 0 where there is none. */
  headerLine(name: string, count: number): number {
    let seen = -1;
    const at = this.lines.findIndex((line) => /^\s*\[\[?\s*([^\]]*?)\s*\]/.exec(line)?.[1] === name && ++seen === count);
    return at + 1;
  }

  /** Line of `key = …` within the section whose header stands on `header`; the header's own where it cannot be found. */
  keyLine(header: number, key: string): number {
    for (let at = header; at < this.lines.length; at++) {
      const line = (this.lines[at] as string).trimStart();
      if (line.startsWith("[")) break;
      const name = line.split("=", 1)[0]?.trim();
      if (line.includes("=") && (name === key || name === JSON.stringify(key))) return at + 1;
    }
    return header;
  }
}

export class TomlSection {
  private readonly file: TomlFile;
  private readonly name: string;
  private readonly header: number;
  private readonly left: Map<string, unknown>;

  constructor(file: TomlFile, name: string, header: number, values: object) {
    this.file = file;
    this.name = name;
    this.header = header;
    this.left = new Map(Object.entries(values));
  }

  /** The value of a key that must be there. */
  take<T>(key: string, form: Form<T>): T {
    const value = this.maybe(key, form);
    return value ?? this.file.refuse(this.header, `${this.label(key)} is missing: want ${form.what}`);
  }

  /** The value of a key, or the fallback; `why` is shown as the origin of the fallback. */
  takeOr<T>(key: string, form: Form<T>, fallback: T, why = "default"): T {
    const value = this.maybe(key, form);
    if (value !== null) return value;
    this.file.settings.push({ key: this.label(key), value: JSON.stringify(fallback), origin: why });
    return fallback;
  }

  maybe<T>(key: string, form: Form<T>): T | null {
    if (!this.left.has(key)) return null;
    const raw = this.left.get(key);
    this.left.delete(key);
    const line = this.file.keyLine(this.header, key);
    const value = form.parse(raw);
    if (value === null) this.file.refuse(line, `${this.label(key)} is ${JSON.stringify(raw)}: want ${form.what}`);
    this.file.settings.push({ key: this.label(key), value: JSON.stringify(raw), origin: `${baseName(this.file.file)}:${line}` });
    return value;
  }

  /** A table below this one; empty where it is not in the file. */
  table(key: string): TomlSection {
    const raw = this.left.get(key) ?? {};
    this.left.delete(key);
    const header = this.file.headerLine(key, 0);
    if (typeof raw !== "object" || raw === null || Array.isArray(raw)) this.file.refuse(header, `${this.label(key)} is no table`);
    return new TomlSection(this.file, key, header, raw);
  }

  /** The tables of `[[key]]`, in the order they stand. */
  tables(key: string): readonly TomlSection[] {
    const raw = this.left.get(key) ?? [];
    this.left.delete(key);
    if (!Array.isArray(raw)) this.file.refuse(this.file.headerLine(key, 0), `${this.label(key)} is no list of tables`);
    return raw.map((each: unknown, at) => {
      const header = this.file.headerLine(key, at);
      if (typeof each !== "object" || each === null) this.file.refuse(header, `${this.label(key)} is no list of tables`);
      return new TomlSection(this.file, `${key}[${at}]`, header, each);
    });
  }

  /** Refuses a value for a reason that its form alone does not show. */
  refuse(key: string, detail: string): never {
    return this.file.refuse(this.file.keyLine(this.header, key), `${this.label(key)} ${detail}`);
  }

  /** Everything was taken, or BAD_CONFIG. */
  end(): void {
    for (const key of this.left.keys()) this.file.refuse(this.file.keyLine(this.header, key), `${this.label(key)} is unknown`);
  }

  private label(key: string): string {
    return this.name === "" ? key : `${this.name}.${key}`;
  }
}

function parseToml(file: string, text: string): object {
  try {
    return Bun.TOML.parse(text);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message.replace(/^TOML Parse error: /, "") : String(cause);
    throw new EngineError("BAD_CONFIG", `${file}:${badLine(text)}: not TOML: ${reason}`, { cause });
  }
}

/** The parser does not say where it stopped: behind the longest run of whole lines that it takes. */
function badLine(text: string): number {
  const lines = text.split("\n");
  for (let count = Math.min(lines.length, LINES_TRIED_MAX); count > 0; count--) {
    try {
      Bun.TOML.parse(lines.slice(0, count).join("\n"));
      return count + 1;
    } catch {
      // one line less
    }
  }
  return 1;
}

const baseName = (path: string): string => path.slice(path.lastIndexOf("/") + 1);
