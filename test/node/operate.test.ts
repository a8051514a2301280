/** What an operator asks of running nodes (sync.md 3.6, 4.7): over the admin port and by the commands, on three real nodes. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { type Ready, UpBench } from "./up-bench.ts";

setDefaultTimeout(60_000);
let bench: UpBench;
let ready: Ready;
beforeAll(async () => {
  bench = await UpBench.open();
  ({ ready } = await bench.up("--no-merge"));
});
afterAll(() => bench[Symbol.asyncDispose]());

const admin = (at: number): string => ready.nodes[at]?.admin ?? "";
const post = (at: number, path: string, body: object = {}, headers: Record<string, string> = {}): Promise<Response> =>
  fetch(`${admin(at)}${path}`, { method: "POST", body: JSON.stringify(body), headers });
const codeOf = async (answer: Response): Promise<string> => ((await answer.json()) as { error: { code: string } }).error.code;

test("a trim is asked of the leader, by POST, and says what keeps it", async () => {
  expect((await bench.run("kv", "put", "x", "1")).status).toBe(0); // there is a leader
  const told = await post(0, "/paxos/trim");
  expect([told.status, await told.json()]).toEqual([200, { first: 1, next: 1, version: 0, by: "new-leader", waitMs: expect.any(Number) }]);
  const elsewhere = await post(1, "/paxos/trim");
  expect([elsewhere.status, await codeOf(elsewhere)]).toEqual([503, "PAXOS_NO_QUORUM"]);
  const read = await fetch(`${admin(0)}/paxos/trim`);
  expect([read.status, await codeOf(read)]).toEqual([405, "HTTP_METHOD"]);
  const foreign = await post(0, "/paxos/trim", {}, { host: "evil.example" });
  expect([foreign.status, await codeOf(foreign)]).toEqual([403, "NOT_ALLOWED"]);
  const { stdout, status } = await bench.run("paxos", "trim", "--json");
  expect([status, JSON.parse(stdout)]).toMatchObject([0, { first: 1, next: 1, versions: [], by: "new-leader" }]);
  const rows = (await bench.run("paxos", "status", "--json")).stdout.trimEnd().split("\n");
  expect(rows.map((row) => (JSON.parse(row) as { trim: object | null }).trim)).toEqual([
    { first: 1, next: 1, by: "new-leader", waitMs: expect.any(Number) },
    null,
    null,
  ]);
});
