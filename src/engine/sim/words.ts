/**
 * The words of one call as its verb reads them: by name where the call says `name=value`, else the next bare word. Every
 * reader names what it wants in its refusal, and `done` refuses what nobody read.
 */
import { EngineError } from "../base/errors.ts";
import { type NodeId, nodeId, REGISTER } from "../base/ids.ts";
import type { Call } from "./grammar.ts";
import type { FrameMatch } from "./network.ts";

const DURATION_UNITS_MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };
const ARROW = /^([\w*-]+)(?:→|->)([\w*-]+)$/;

export type Route = { readonly from: NodeId; readonly to: NodeId };

export class Words {
  private readonly verb: string;
  private readonly bare: string[] = [];
  private readonly keyed = new Map<string, string>();

  constructor(verb: string, call: Call) {
    this.verb = verb;
    for (const { key, value } of call) {
      if (key === null) this.bare.push(value);
      else if (this.keyed.has(key)) throw this.refuse(`${key} is given twice`);
      else this.keyed.set(key, value);
    }
  }

  /** The next word, or what is said under this name; refused when missing. */
  text(name: string): string {
    const value = this.optional(name);
    if (value === null) throw this.refuse(`${name} is missing`);
    return value;
  }

  optional(name: string): string | null {
    return this.key(name) ?? this.bare.shift() ?? null;
  }

  /** Only as `name=value`. */
  key(name: string): string | null {
    const value = this.keyed.get(name) ?? null;
    this.keyed.delete(name);
    return value;
  }

  /** Whether `name=` is given. */
  has(name: string): boolean {
    return this.keyed.has(name);
  }

  /** Whether the next bare word is this one; then it is read. */
  flag(word: string): boolean {
    if (this.bare[0] !== word) return false;
    this.bare.shift();
    return true;
  }

  /** The next bare word if it has this form. */
  next(form: RegExp): string | null {
    return this.bare[0] !== undefined && form.test(this.bare[0]) ? (this.bare.shift() ?? null) : null;
  }

  /** All bare words that are left. */
  rest(): string[] {
    return this.bare.splice(0);
  }

  node(name: string): NodeId {
    return this.asNode(this.text(name));
  }

  optionalNode(name: string): NodeId | null {
    const value = this.optional(name);
    return value === null ? null : this.asNode(value);
  }

  /** A comma-separated list of names. */
  nodes(name: string, absent: string): NodeId[] {
    const value = this.key(name) ?? absent;
    return value === "" ? [] : value.split(",").map((each) => this.asNode(each));
  }

  count(name: string, absent?: number): number {
    const value = absent === undefined ? this.text(name) : this.key(name);
    if (value === null) return absent as number;
    if (!/^(0|[1-9]\d*)$/.test(value) || !Number.isSafeInteger(Number(value))) throw this.refuse(`${name} is ${value}, want a count`);
    return Number(value);
  }

  /** One of a few words. */
  oneOf<const T extends readonly string[]>(name: string, words: T, absent: T[number]): T[number] {
    const value = this.key(name) ?? absent;
    const found = words.find((word) => word === value);
    if (found === undefined) throw this.refuse(`${name} is ${value}, want ${words.join(", ")}`);
    return found;
  }

  /** The next bare word if it is a duration: `50ms`, `10s`. */
  duration(): number | null {
    const value = this.next(/^\d+(ms|s|m|h)$/);
    return value === null ? null : toMs(value);
  }

  /** The next bare word if it is a route of two nodes: `b→a` or `b->a`. */
  route(): Route | null {
    const value = this.next(ARROW);
    const [, from = "", to = ""] = ARROW.exec(value ?? "") ?? [];
    return value === null ? null : { from: this.asNode(from), to: this.asNode(to) };
  }

  /** `KIND b→a`, `KIND` or `b→a`; `*` stands for any kind or node. */
  frames(): FrameMatch {
    const kind = this.next(/^(?!.*(→|->)).+$/) ?? "*";
    const [, from = "*", to = "*"] = ARROW.exec(this.next(ARROW) ?? "") ?? [];
    return { kind, from, to };
  }

  /** Refuses words that nobody read. */
  done(): void {
    const [key] = this.keyed.keys();
    if (key !== undefined) throw this.refuse(`${key}= is not one of its words`);
    if (this.bare[0] !== undefined) throw this.refuse(`${this.bare[0]} is one word too many`);
  }

  refuse(what: string): EngineError {
    return new EngineError("PARSE", `${this.verb}: ${what}`);
  }

  private asNode(text: string): NodeId {
    return text === REGISTER ? REGISTER : nodeId(text);
  }
}

function toMs(text: string): number {
  const unit = /[a-z]+$/.exec(text)?.[0] ?? "ms";
  return Number.parseInt(text, 10) * (DURATION_UNITS_MS[unit] ?? 1);
}
