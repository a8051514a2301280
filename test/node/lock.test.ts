/** Locks between processes: refused, waited for, and given back by death. */
import { expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { EngineError } from "../../src/engine/base/errors.ts";
import { lockFile } from "../../src/engine/node/lock.ts";
import { lines, startChild } from "../store/children.ts";

async function withFolder(run: (path: string) => Promise<void>): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), "cairn-lock-"));
  try {
    await run(join(dir, "deep/lock.step"));
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

test("a held lock is refused with its owner, and free again when released; the file stays", () =>
  withFolder(async (path) => {
    const lock = await lockFile(path, { busy: "MERGE_STEP_BUSY" });
    expect(readFileSync(path, "utf8")).toBe(`${process.pid}\n`);
    await expect(lockFile(path, { busy: "MERGE_STEP_BUSY" })).rejects.toMatchObject({
      code: "MERGE_STEP_BUSY",
      message: `${path} is locked by process ${process.pid}`,
    });
    await expect(lockFile(path, { busy: () => new EngineError("NODE_RUNNING", "mine") })).rejects.toMatchObject({ code: "NODE_RUNNING", message: "mine" });
    await lock.release();
    await lock.release();
    expect(existsSync(path)).toBe(true);
    await using again = await lockFile(path, { busy: "MERGE_STEP_BUSY" });
    expect(again.path).toBe(path);
  }));

test("a waiter gets the lock when it is released, and is refused when its time is over", () =>
  withFolder(async (path) => {
    const first = await lockFile(path, { busy: "MERGE_STEP_BUSY" });
    await expect(lockFile(path, { wait: true, waitMs: 60, busy: "MERGE_STEP_BUSY" })).rejects.toMatchObject({ code: "MERGE_STEP_BUSY" });
    const order: string[] = [];
    const second = lockFile(path, { wait: true, busy: "MERGE_STEP_BUSY" }).then((lock) => {
      order.push("second has it");
      return lock;
    });
    await Bun.sleep(60); // it asks at least once more
    order.push("first lets go");
    await first.release();
    await (await second).release();
    expect(order).toEqual(["first lets go", "second has it"]);
  }));

test("kill -9 of the owner gives the lock back, though a child of it lives on", () =>
  withFolder(async (path) => {
    const child = startChild("lock", path);
    for await (const line of lines<{ locked: boolean; child: number }>(child)) {
      expect(line.locked).toBe(true);
      await expect(lockFile(path, { busy: "NODE_RUNNING" })).rejects.toThrow(`is locked by process ${child.pid}`);
      child.kill("SIGKILL");
      await child.exited;
      await using lock = await lockFile(path, { wait: true, waitMs: 5_000, busy: "NODE_RUNNING" });
      expect(readFileSync(lock.path, "utf8")).toBe(`${process.pid}\n`);
      process.kill(line.child, "SIGKILL");
      break;
    }
  }));
