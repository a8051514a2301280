/**
 * The merge loop as a child of the primary's daemon: `cairn merge run`, started again when it dies, ended by closing
 * its stdin. That also ends it when the daemon is killed, so no loop outlives its node.
 */
import type { NodeId } from "../base/ids.ts";
import { describeFailure } from "./driver.ts";
import { nodeEnvironment, selfCommand } from "./self.ts";

const RESTART_FIRST_MS = 200;
const RESTART_MAX_MS = 10_000;
/** A loop that ran this long was healthy: the next restart is quick again. */
const HEALTHY_MS = 30_000;
/** Steps in progress end within this, or their process is killed: they go on from their files. */
const CLOSE_MS = 5_000;

export type MergeChild = {
  /** This storage node has something new: a hint, dropped where no loop runs. */
  ready(storage: NodeId): void;
  close(): Promise<void>;
};
type Child = Bun.Subprocess<"pipe", "ignore", "inherit">;

export function startMergeChild(dir: string, note: (text: string) => void): MergeChild {
  const stop = Promise.withResolvers<void>();
  let stopping = false;
  let current: Child | null = null;
  const running = keepRunning(dir, note, {
    promise: stop.promise,
    isSet: () => stopping,
    started: (child) => {
      current = child;
    },
  });
  return {
    ready: (storage) => {
      if (stopping || current === null || current.exitCode !== null) return;
      current.stdin.write(`ready ${storage}\n`);
      current.stdin.flush();
    },
    close: () => {
      stopping = true;
      stop.resolve();
      return running;
    },
  };
}

type Stop = { readonly promise: Promise<void>; isSet(): boolean; started(child: Child): void };

async function keepRunning(dir: string, note: (text: string) => void, stop: Stop): Promise<void> {
  for (let waitMs = RESTART_FIRST_MS; !stop.isSet(); waitMs = Math.min(waitMs * 2, RESTART_MAX_MS)) {
    const startedMs = performance.now();
    try {
      await runOnce(dir, note, stop);
    } catch (error) {
      note(`the merge loop could not be started: ${describeFailure(error).detail}`);
    }
    if (stop.isSet()) return;
    if (performance.now() - startedMs > HEALTHY_MS) waitMs = RESTART_FIRST_MS;
    await Promise.race([stop.promise, Bun.sleep(waitMs)]);
  }
}

async function runOnce(dir: string, note: (text: string) => void, stop: Stop): Promise<void> {
  const child = Bun.spawn(selfCommand("merge", "run", "--dir", dir, "--stdin"), { stdin: "pipe", stdout: "ignore", stderr: "inherit", env: nodeEnvironment() });
  stop.started(child);
  await Promise.race([stop.promise, child.exited]);
  if (!stop.isSet()) return note(`the merge loop ended with ${child.exitCode ?? child.signalCode}; it is started again`);
  await child.stdin.end();
  const killer = setTimeout(() => child.kill("SIGKILL"), CLOSE_MS);
  await child.exited;
  clearTimeout(killer);
}
