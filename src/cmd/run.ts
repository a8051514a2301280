/**
 * One call from words to exit status: parse, run, report. What went wrong is printed in one place: `error[CODE]: …` and
 * `hint: …` on stderr, and with --json also one object on stdout, so that a program reading stdout sees it too.
 * Never calls process.exit except on a signal that the command does not watch.
 */
import { EngineError, type ErrorCode, errorTable } from "../engine/base/errors.ts";
import { confirmPlan } from "./ask.ts";
import { helpText } from "./help.ts";
import { type Out, openOut, PipeClosed } from "./out.ts";
import { type Call, parseWords } from "./parse.ts";
import type { AnyContext, CommandSpec } from "./spec.ts";
import { versionLine } from "./version.ts";

const SIGNAL_STATUS = { SIGINT: 130, SIGTERM: 143 } as const;

export async function runWords(words: readonly string[], specs: readonly CommandSpec[]): Promise<void> {
  const stdout = openOut(process.stdout);
  const stderr = openOut(process.stderr);
  try {
    process.exitCode = await performCall(parseWords(words, specs), specs, { stdout, stderr });
  } catch (error) {
    await report(error, { stdout, stderr, json: wantsJson(words) });
  }
}

type Streams = { readonly stdout: Out; readonly stderr: Out };

async function performCall(call: Call, specs: readonly CommandSpec[], streams: Streams): Promise<number> {
  if (call.kind === "run") return runCommand(call, streams);
  await streams.stdout.write(withLf(call.kind === "version" ? versionLine : helpText(call.topic, specs)));
  return 0;
}

async function runCommand({ spec, options, args }: Call & { kind: "run" }, { stdout, stderr }: Streams): Promise<number> {
  let status = 0;
  let lastNote = Promise.resolve();
  const stop = watchSignals();
  const json = options["json"] === true;
  const cluster = options["cluster"] ?? process.env["CAIRN_CLUSTER"];
  const ctx: AnyContext = {
    options,
    args,
    json,
    cluster: typeof cluster === "string" ? cluster : undefined,
    timeoutMs: Number(options["timeout"]),
    yes: options["yes"] === true,
    get signal() {
      return stop.signal();
    },
    answer: (value, text) => stdout.write(json ? jsonLines(value) : withLf(text)),
    answerBytes: (value) => stdout.write(value),
    note: (text) => {
      lastNote = stderr.write(withLf(text)).catch(() => {}); // nobody reads the notes: no reason to stop the work
    },
    confirm: (plan) => confirmPlan(plan, options["yes"] === true),
    exitWith: (wanted) => {
      status = wanted;
    },
  };
  try {
    await spec.run(ctx);
  } finally {
    await lastNote;
    stop.end();
  }
  return status === 0 ? (stop.status() ?? 0) : status;
}

/** The first signal aborts what watches it; a second one, or one that nothing watches, ends the process. */
function watchSignals(): { signal(): AbortSignal; status(): number | null; end(): void } {
  let status: number | null = null;
  let controller: AbortController | null = null;
  const onSignal = (name: keyof typeof SIGNAL_STATUS): void => {
    if (status !== null || controller === null) process.exit(SIGNAL_STATUS[name]);
    status = SIGNAL_STATUS[name];
    controller.abort();
  };
  const onInterrupt = (): void => onSignal("SIGINT");
  const onTerminate = (): void => onSignal("SIGTERM");
  process.on("SIGINT", onInterrupt).on("SIGTERM", onTerminate);
  return {
    signal: () => {
      controller ??= new AbortController();
      return controller.signal;
    },
    status: () => status,
    end: () => process.off("SIGINT", onInterrupt).off("SIGTERM", onTerminate),
  };
}

async function report(error: unknown, { stdout, stderr, json }: Streams & { readonly json: boolean }): Promise<void> {
  if (error instanceof PipeClosed) return;
  const { code, detail, stack } = describe(error);
  const { exit, hint, retryable } = errorTable[code];
  process.exitCode = exit;
  const quiet = (): void => {}; // with both streams gone there is only the exit status left
  if (json) await stdout.write(jsonLines({ error: { code, message: detail, hint, exit, retryable } })).catch(quiet);
  await stderr.write(`error[${code}]: ${detail}\nhint: ${hint}\n`).catch(quiet);
  if (process.env["CAIRN_TRACE"] !== undefined) await stderr.write(withLf(stack)).catch(quiet);
}

function describe(error: unknown): { readonly code: ErrorCode; readonly detail: string; readonly stack: string } {
  if (error instanceof EngineError) return { code: error.code, detail: error.message, stack: Bun.inspect(error) };
  const message = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  return { code: "FAILED", detail: message.replaceAll(/\s*\n\s*/g, "; "), stack: Bun.inspect(error) };
}

/** Where the words cannot be parsed, whether JSON is wanted must still be known. */
function wantsJson(words: readonly string[]): boolean {
  const end = words.indexOf("--");
  return words.slice(0, end === -1 ? words.length : end).includes("--json");
}

const jsonLines = (value: object): string => (Array.isArray(value) ? value : [value]).map((each) => `${JSON.stringify(each)}\n`).join("");
const withLf = (text: string): string => (text === "" || text.endsWith("\n") ? text : `${text}\n`);
