/**
 * The loop around the merge's steps (seed 000: each program executes once, the loop is in the caller). Every step is a
 * process of its own; a warm one waits for `go` on its stdin, and each `go` is one run and one line of result. The loop
 * holds no state of the merge: it only knows which step reads what another one changed.
 */
import type { NodeId } from "../base/ids.ts";
import type { MergeConfig, StepResult } from "../merge/config.ts";
import { LONG_RUN_MS } from "./loop-trouble.ts";
import { nodeEnvironment, selfCommand, stepEnvironment } from "./self.ts";

export type LoopStep = { readonly key: string; readonly words: readonly string[] };

/** A step that failed is tried again after this long, doubling up to the second. */
const RETRY_MS = 200;
const RETRY_MS_MAX = 2_000;
/** A storage node that had nothing new is asked again after the interval, then twice that, up to this: it hints when it has. */
const IDLE_MS_MAX = 1_000;
/** At the end a run in progress may finish within this; one that waits for a dead peer would take many seconds. */
const FINISH_MS = 300;
/** Frontends that are owed a head are looked after so often. */
const OWED_MS = 1_000;

export const fetchStep = (storage: NodeId): LoopStep => ({ key: `fetch.${storage}`, words: ["fetch", "--storage", storage] });
export const queueStep: LoopStep = { key: "queue", words: ["queue"] };
export const backupStep = (secondary: NodeId): LoopStep => ({ key: `backup.${secondary}`, words: ["backup", "--secondary", secondary] });
export const distStep: LoopStep = { key: "dist", words: ["dist"] };

export type LoopOptions = {
  readonly dir: string;
  readonly config: MergeConfig;
  /** Called with every line of result. */
  readonly onResult: (step: LoopStep, result: StepResult) => void;
  /** A step process that ended by itself, with what it said last. */
  readonly onTrouble: (step: LoopStep, text: string) => void;
  /** A run that has lasted for `LONG_RUN_MS`. */
  readonly onLong: (step: LoopStep) => void;
  readonly signal: AbortSignal;
  /** Storage nodes that have something new, as they say so: losing a hint costs a wait. */
  readonly onHint?: (ready: (storage: string) => void) => void;
};

/** One step as a process that is kept warm; started anew when it died. */
class Worker {
  private readonly step: LoopStep;
  private readonly options: LoopOptions;
  private child: Bun.Subprocess<"pipe", "pipe", "pipe"> | null = null;
  private resolve: ((result: StepResult | null) => void) | null = null;

  constructor(step: LoopStep, options: LoopOptions) {
    this.step = step;
    this.options = options;
  }

  /** One run; null where the process died instead of answering. */
  run(): Promise<StepResult | null> {
    const child = this.child ?? this.spawn();
    const { promise, resolve } = Promise.withResolvers<StepResult | null>();
    this.resolve = resolve;
    child.stdin.write("go\n");
    child.stdin.flush();
    return promise;
  }

  private spawn(): Bun.Subprocess<"pipe", "pipe", "pipe"> {
    const command = selfCommand("merge", ...this.step.words, "--dir", this.options.dir, "--log", this.options.config.logName, "--warm", "--wait", "--json");
    const env = this.step === queueStep ? nodeEnvironment() : stepEnvironment(); // a batch of the order is the largest thing there is
    const child = Bun.spawn(command, { stdin: "pipe", stdout: "pipe", stderr: "pipe", env });
    this.child = child;
    const said = lastLine(child.stderr);
    void this.read(child, said);
    return child;
  }

  private async read(child: Bun.Subprocess<"pipe", "pipe", "pipe">, said: Promise<string>): Promise<void> {
    for await (const line of lines(child.stdout)) {
      const result = parseResult(line);
      if (result === null) continue;
      const isCut = this.options.signal.aborted && result.error?.code === "NOT_READY"; // we told it to stop: no news
      if (!isCut) this.options.onResult(this.step, result);
      this.settle(result);
    }
    await child.exited;
    this.child = null;
    const text = await said;
    if (!this.options.signal.aborted) this.options.onTrouble(this.step, text || `ended with status ${child.exitCode ?? child.signalCode}`);
    this.settle(null);
  }

  private settle(result: StepResult | null): void {
    this.resolve?.(result);
    this.resolve = null;
  }

  /** The process ends at the end of its stdin, after the run in progress; one that takes long is told to stop where it is. */
  async close(): Promise<void> {
    const { child } = this;
    if (child === null) return;
    child.stdin.end();
    const stopper = setTimeout(() => child.kill("SIGTERM"), FINISH_MS);
    await child.exited;
    clearTimeout(stopper);
  }
}

/** Runs the steps side by side, each when a file that it reads changed, until the signal. */
export async function runParallel(options: LoopOptions): Promise<void> {
  const { config, signal } = options;
  const backups = config.secondaries.map(backupStep);
  const fetchers = config.storages.map(fetchStep);
  const workers = new Map([...fetchers, queueStep, ...backups, distStep].map((step) => [step.key, new Worker(step, options)]));
  const wanted = new Map<string, () => void>();
  const wants = new Set<string>();
  const want = (key: string): void => {
    wants.add(key);
    wanted.get(key)?.();
  };
  const idle = new Map<string, number>();
  /** What a result means for the others, and how long until this step runs again without being asked. */
  const after = (step: LoopStep, result: StepResult): number | null => {
    if (fetchers.includes(step)) {
      if (result.changed) want(queueStep.key);
      const idleMs = result.changed ? config.intervalMs : Math.min(2 * (idle.get(step.key) ?? config.intervalMs / 2), IDLE_MS_MAX);
      idle.set(step.key, idleMs);
      return idleMs;
    }
    if (step === queueStep) {
      if (result.changed) for (const each of [...backups, ...(config.backupquorum === 0 ? [distStep] : [])]) want(each.key);
      else if ((result.counts["repeats"] ?? 0) > 0) want(distStep.key); // no new head, but who listed them has to hear of the old one
      return result.notes.length > 0 ? OWED_MS : null;
    }
    if (step === distStep) return (result.counts["published"] ?? 0) < config.frontends.length || (result.counts["owed"] ?? 0) > 0 ? OWED_MS : null;
    if (result.changed) want(distStep.key);
    return null;
  };
  const drive = async (step: LoopStep, worker: Worker): Promise<void> => {
    const isFetcher = fetchers.includes(step);
    let retryMs = RETRY_MS;
    let ranMs = Number.NEGATIVE_INFINITY;
    const closed = aborted(signal).then(() => worker.close()); // perhaps in the middle of a run, which then ends early
    want(step.key); // the first run finishes what an earlier one left
    for (let withinMs: number | null = null; ; ) {
      await wantedOf(step.key, { wants, wanted, signal, withinMs });
      if (isFetcher) await sleep(ranMs + config.intervalMs - performance.now(), signal); // what comes close together is listed together
      if (signal.aborted) break;
      wants.delete(step.key);
      ranMs = performance.now();
      const long = setTimeout(() => options.onLong(step), LONG_RUN_MS);
      const result = await worker.run();
      clearTimeout(long);
      withinMs = result === null ? null : after(step, result);
      const failed = result === null || result.error !== undefined;
      if (failed) {
        await sleep(retryMs, signal);
        want(step.key);
      }
      retryMs = failed ? Math.min(retryMs * 2, RETRY_MS_MAX) : RETRY_MS;
    }
    await closed;
  };
  options.onHint?.((storage) => fetchers.some(({ key }) => key === `fetch.${storage}`) && want(`fetch.${storage}`));
  await Promise.all([...fetchers, queueStep, ...backups, distStep].map((step) => drive(step, workers.get(step.key) as Worker)));
}

type Wish = {
  readonly wants: ReadonlySet<string>;
  readonly wanted: Map<string, () => void>;
  readonly signal: AbortSignal;
  /** Runs again after this also where nobody asks; null: never. */
  readonly withinMs: number | null;
};

function wantedOf(key: string, { wants, wanted, signal, withinMs }: Wish): Promise<void> {
  if (wants.has(key) || signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const wake = (): void => {
      clearTimeout(timer);
      wanted.delete(key);
      signal.removeEventListener("abort", wake);
      resolve();
    };
    const timer = withinMs === null ? undefined : setTimeout(wake, withinMs);
    wanted.set(key, wake);
    signal.addEventListener("abort", wake);
  });
}

function sleep(forMs: number, signal: AbortSignal): Promise<void> {
  if (!(forMs > 0) || signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const wake = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", wake);
      resolve();
    };
    const timer = setTimeout(wake, forMs);
    signal.addEventListener("abort", wake);
  });
}

const aborted = (signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });

/** One round, step after step, each a process that runs once. */
export async function runSequential(options: LoopOptions): Promise<void> {
  const { config } = options;
  for (const step of [...config.storages.map(fetchStep), queueStep, ...config.secondaries.map(backupStep), distStep]) {
    if (options.signal.aborted) return;
    const command = selfCommand("merge", ...step.words, "--dir", options.dir, "--log", config.logName, "--wait", "--json");
    const child = Bun.spawn(command, { stdin: "ignore", stdout: "pipe", stderr: "pipe", env: nodeEnvironment() });
    const said = lastLine(child.stderr);
    let answered = false;
    for await (const line of lines(child.stdout)) {
      const result = parseResult(line);
      if (result === null) continue;
      answered = true;
      options.onResult(step, result);
    }
    await child.exited;
    if (!answered) options.onTrouble(step, (await said) || `ended with status ${child.exitCode ?? child.signalCode}`);
  }
}

function parseResult(line: string): StepResult | null {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === "object" && value !== null && "step" in value && "counts" in value ? (value as StepResult) : null;
  } catch {
    return null; // not a line of result: the process's own trouble, told on its stderr
  }
}

/** A result line is a few hundred bytes; a longer one is cut. */
const LINE_CHARS_MAX = 1_048_576;

async function* lines(stream: ReadableStream<Uint8Array>): AsyncIterable<string> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of stream) {
    rest = (rest + decoder.decode(chunk, { stream: true })).slice(-LINE_CHARS_MAX);
    const whole = rest.split("\n");
    rest = whole.pop() ?? "";
    yield* whole;
  }
  if (rest !== "") yield rest;
}

async function lastLine(stream: ReadableStream<Uint8Array>): Promise<string> {
  let last = "";
  for await (const line of lines(stream)) if (line.trim() !== "" && !line.startsWith("hint:")) last = line;
  return last;
}
