/**
 * What a test runs in a process of its own: `bun child.ts ROLE DIR`. One line of JSON on stdout for each step done, so
 * that the parent knows what was acknowledged before it pulls the plug.
 */
import { writeSync } from "node:fs";
import { utf8 } from "../../src/engine/base/bytes.ts";
import { EngineError } from "../../src/engine/base/errors.ts";
import { lockFile } from "../../src/engine/node/lock.ts";
import { openEnvironment } from "../../src/engine/store/lmdb.ts";
import { COMMITS } from "./children.ts";

const [role, dir] = process.argv.slice(2) as [string, string];
/** At once and by one system call: a trace shows what was durable before it was said. */
const say = (line: unknown): void => void writeSync(1, `${JSON.stringify(line)}\n`);

const roles: Record<string, () => Promise<void>> = {
  /** Commits pairs of keys for ever, each pair in one batch. */
  async write() {
    const { stores } = await openEnvironment(dir, ["a"], { create: true });
    for (let n = stores.a.stat().keyCount / 2; ; n++) {
      const value = new Uint8Array(1 + (n % 5_000)).fill(n);
      await stores.a.commit([
        { op: "put", key: utf8(`x/${n}`), value },
        { op: "put", key: utf8(`y/${n}`), value },
      ]);
      say({ n });
    }
  },
  /** Commits what its stdin says, line by line, and reads back. */
  async share() {
    const { stores, close } = await openEnvironment(dir, ["a"], { create: true });
    for await (const line of console) {
      if (line === "end") break;
      await stores.a.commit([{ op: "put", key: utf8(line), value: utf8("child") }]);
      using snap = stores.a.snapshot();
      say({ seen: [...snap.iterate()].map(([key]) => new TextDecoder().decode(key)) });
    }
    await close();
  },
  /** Commits until there is no room, then shows that reads go on and that a small commit fits. */
  async fill() {
    const { stores, close } = await openEnvironment(dir, ["a"], { create: true });
    const big = (n: number): Promise<void> =>
      stores.a.commit(Array.from({ length: 100 }, (_, i) => ({ op: "put", key: utf8(`${n}/${i}`), value: new Uint8Array(3_000) })));
    let n = 0;
    for (let full = false; !full; ) {
      try {
        await big(n);
        n++;
      } catch (error) {
        if (!(error instanceof EngineError)) throw error;
        say({ code: error.code, stored: n });
        full = true;
      }
    }
    {
      using snap = stores.a.snapshot();
      say({ rows: [...snap.iterate()].length, half: snap.get(utf8(`${n}/0`)) !== undefined });
    }
    for (let again = 0; again < 3; again++) {
      await stores.a.commit([{ op: "delRange", key: utf8("0/"), end: utf8("00") }]); // frees what the next ones need,
      await stores.a.commit([{ op: "put", key: utf8("tick"), value: utf8("1") }]); // but only from the second commit on
      await big(0);
      say({ again });
    }
    await close();
  },
  /** One commit after another; says how each ended. */
  async commits() {
    const { stores } = await openEnvironment(dir, ["a"], { create: true });
    say({ open: true });
    for (let n = 0; n < COMMITS; n++) {
      try {
        await stores.a.commit([{ op: "put", key: utf8(`k${n}`), value: utf8("value") }]);
        say({ n });
      } catch (error) {
        say({ n, code: error instanceof EngineError ? error.code : String(error) });
      }
    }
    process.exit(0);
  },
  async lock() {
    await lockFile(dir, { busy: "NODE_RUNNING" });
    const heir = Bun.spawn(["sleep", "30"], { stdout: "ignore" }); // would keep the lock if it inherited the file
    say({ locked: true, child: heir.pid });
    await Bun.sleep(30_000);
  },
};

await (roles[role] as () => Promise<void>)();
