/**
 * A command is data: help, completion, the README's table, and the checks on what was typed are all made from its
 * CommandSpec (architecture.md section 7). `command` ties the declared options and arguments to the types that `run` sees.
 * A spec file does nothing at import time, and imports the engine inside `run` where that would load the store.
 */
export type OptionForm = "string" | "count" | "duration" | "size" | "flag" | readonly string[];

export type OptionSpec = {
  /** Without dashes: `no-merge`. */
  readonly name: string;
  /** One letter, where there is one: `o` for `-o`. */
  readonly short?: string;
  /** What a value looks like; a list is the words it may be. Durations arrive in milliseconds, sizes in bytes. */
  readonly form: OptionForm;
  /** The value's name in help: `DIR`. */
  readonly value?: string;
  /** As it would be typed. */
  readonly default?: string;
  /** May be given several times. */
  readonly many?: true;
  readonly means: string;
};

export type ArgSpec = { readonly name: string; readonly optional?: true; readonly many?: true; readonly means: string };

type Value<Form extends OptionForm> = Form extends "flag"
  ? boolean
  : Form extends "count" | "duration" | "size"
    ? number
    : Form extends readonly (infer Word)[]
      ? Word
      : string;
type OptionValue<O extends OptionSpec> = O extends { many: true }
  ? readonly Value<O["form"]>[]
  : O["form"] extends "flag"
    ? boolean
    : O extends { default: string }
      ? Value<O["form"]>
      : Value<O["form"]> | undefined;
type ArgValue<A extends ArgSpec> = A extends { many: true } ? readonly string[] : A extends { optional: true } ? string | undefined : string;

export type Context<O extends readonly OptionSpec[] = [], A extends readonly ArgSpec[] = []> = {
  readonly options: { readonly [Each in O[number] as Each["name"]]: OptionValue<Each> };
  readonly args: { readonly [Each in A[number] as Each["name"]]: ArgValue<Each> };
  /** The common options. `cluster` is CAIRN_CLUSTER where --cluster was not given. */
  readonly json: boolean;
  readonly cluster: string | undefined;
  readonly timeoutMs: number;
  readonly yes: boolean;
  /** Aborted by SIGINT or SIGTERM. Reading it promises to end soon after; a command that never reads it is ended at once. */
  readonly signal: AbortSignal;
  /** The answer, on stdout: with --json one object a line (one for each row of a list), else the text. */
  answer(value: object, text: string): Promise<void>;
  /** An answer that is bytes: exactly these, on stdout. */
  answerBytes(value: Uint8Array): Promise<void>;
  /** Anything that is not the answer, on stderr. */
  note(text: string): void;
  /** Shows the plan and asks; --yes answers. Throws NEEDS_ANSWER where nobody can be asked. False: the person said no. */
  confirm(plan: string): Promise<boolean>;
  /** Exit status of a command that ended as it should and has more to say than 0 or an error. */
  exitWith(status: number): void;
};

export type OptionValues = Readonly<Record<string, string | number | boolean | undefined | readonly (string | number)[]>>;
export type ArgValues = Readonly<Record<string, string | undefined | readonly string[]>>;
/** A context whose options and arguments are only known by name. */
export type AnyContext = Omit<Context, "options" | "args"> & { readonly options: OptionValues; readonly args: ArgValues };

type Common = {
  /** Words as typed: `merge fetch`. */
  readonly name: string;
  readonly summary: string;
  /** Codes it may end with beside USAGE and FAILED. */
  readonly errors: readonly string[];
  /** Complete command lines; the first is shown in the README. */
  readonly examples: readonly string[];
  /** Left out of help and completion: it serves a program, not a person. */
  readonly hidden?: true;
};
export type CommandSpec = Common & {
  readonly options: readonly OptionSpec[];
  readonly args: readonly ArgSpec[];
  run(ctx: AnyContext): Promise<void>;
};

export function command<const O extends readonly OptionSpec[], const A extends readonly ArgSpec[]>(
  spec: Common & { readonly options: O; readonly args: A; run(ctx: Context<O, A>): Promise<void> },
): CommandSpec {
  // The one parse of untyped words into the declared types: parse.ts made every value after these very declarations.
  return { ...spec, run: (ctx) => spec.run(ctx as Context<O, A>) };
}

/** Every command has these. */
export const commonOptions: readonly OptionSpec[] = [
  { name: "json", form: "flag", means: "answer and errors as JSON, one object a line" },
  { name: "cluster", form: "string", value: "DIR|FILE|URL,…", means: "which cluster; else CAIRN_CLUSTER, else the newest running `up`" },
  { name: "timeout", form: "duration", value: "TIME", default: "10s", means: "give up after this long" },
  { name: "yes", form: "flag", means: "do not ask" },
  { name: "help", short: "h", form: "flag", means: "show this help" },
];
