/**
 * One flush of a member of the replicated store fails (sync.md 2.2, rule 6), on the binary: strace makes the n-th fdatasync or
 * fsync of its process fail, and later ones would do. The node ends, names what failed, acknowledged nothing from it, and
 * reads every row before it serves again; the others go on.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { liveCluster } from "../node/live-cluster.ts";
import { COMPILED, healthOf, statusOf } from "../node/up-bench.ts";
import { straceInject } from "./strace.ts";

setDefaultTimeout(180_000);
const live = liveCluster(COMPILED, 120_000);

/** Calls of a process: its own files, the journal and the store take turns among them. */
const NTH = [1, 3, 4, 6, 9, 14];
const WRITES_MS = 20_000;
const WRITES_FAST = 100;
const PAUSE_MS = 10;

test("a leader's or a follower's n-th flush fails once: it ends, nothing acknowledged is lost, and it rechecks before it serves", async () => {
  const acknowledged = new Map<string, string>();
  let rechecked = 0;
  for (const [round, nth] of NTH.entries()) {
    const at = round % 2 === 0 ? 0 : 2;
    const { dir } = live.node(at);
    await live.kill(at);
    const words = [...straceInject("fdatasync,fsync", `error=EIO:when=${nth}`), ...COMPILED, "node", "run", "--dir", dir, "--no-merge"];
    const node = Bun.spawn(words, { stdin: "ignore", stdout: "ignore", stderr: "pipe" });
    const errors = node.stderr.text();
    // a member that is back needs a second to lead again, and flushes little before
    for (let write = 0, untilMs = performance.now() + WRITES_MS; node.exitCode === null && performance.now() < untilMs; write++) {
      const [key, value] = [`flush-${round}-${write}`, `${nth} of ${live.node(at).id}`];
      const answer = await fetch(`${live.node(1).admin}/kv/${key}`, { method: "PUT", body: value }).catch(() => null);
      if (answer?.status === 200) acknowledged.set(key, value);
      if (write > WRITES_FAST) await Bun.sleep(PAUSE_MS);
    }
    if (node.exitCode === null) node.kill("SIGKILL"); // its flush did not come: said below
    expect([nth, await node.exited, await errors]).toEqual([nth, 1, expect.stringMatching(/error\[STORE_SYNC_FAILED\]: \S+\/(store|accepts|running\.json): /)]);
    const isMarked = existsSync(join(dir, "recheck"));
    const again = live.bench.spawn("node", "run", "--dir", dir, "--no-merge", "--stdin");
    const notes = again.stderr.getReader();
    if (isMarked) {
      rechecked++;
      const { value } = await notes.read();
      expect(new TextDecoder().decode(value)).toMatch(/a write had failed: \d+ rows were read again, every checksum is right/);
    }
    await live.serves(at);
    expect(existsSync(join(dir, "recheck"))).toBe(false);
  }
  expect(rechecked).toBeGreaterThan(2);
  expect(acknowledged.size).toBeGreaterThan(NTH.length);
  for (const [key, value] of acknowledged) expect(await (await fetch(`${live.node(1).admin}/kv/${key}`)).text()).toBe(value);
  expect(await healthOf(live.node(1))).toBe(200);
  expect((await statusOf(live.node(0)))?.paxos.leader).not.toBe(null);
  expect(await live.bench.differences(live.ready.nodes)).toEqual([]);
});
