/** The simulated world as a driver: it passes the same suite of duties as the real one. */
import { nodeId } from "../../src/engine/base/ids.ts";
import { runFor, settle } from "../../src/engine/sim/steer.ts";
import { World } from "../../src/engine/sim/world.ts";
import { type BenchNode, type DriverBench, driverContract } from "../contract/driver.ts";
import { newRecord, type ToyRecord, toyCore } from "../contract/toy-core.ts";
import { type ToyWorld, toyWire } from "./toy-world.ts";

driverContract("simulated world", async () => openBench());

function openBench(): DriverBench {
  const world: ToyWorld = new World({ seed: 1, wire: toyWire });
  const records = new Map<string, ToyRecord>();
  const calls: Record<BenchNode, ReturnType<ToyWorld["request"]>[]> = { a: [], b: [] };
  for (const name of ["a", "b"] as const) {
    const make = () => {
      records.set(name, newRecord());
      return toyCore(records.get(name) as ToyRecord);
    };
    world.addNode(nodeId(name), { daemon: make });
    world.startNode(nodeId(name));
  }
  settle(world);
  const a = nodeId("a");
  return {
    async tell(node, command) {
      const record = records.get(node);
      const before = record?.seen.length;
      calls[node].push(world.request(nodeId(node), command));
      while (record?.seen.length === before && world.step());
    },
    record: (node) => records.get(node) ?? newRecord(),
    replies: (node) => calls[node].flatMap(({ body }) => (body?.kind === "said" ? [body.text] : [])),
    ended(node) {
      const end = [...world.processes.values()].findLast((process) => process.node === nodeId(node))?.end ?? null;
      return end === null || end.kind === "crashed" ? null : end.kind === "done" ? "done" : end.code;
    },
    storage: {
      pause: () => world.pauseDisk(a),
      resume: () => world.resumeDisk(a),
      failNext: () => void world.node(a).faults.failNext++,
      fullNext: () => void world.node(a).faults.fullNext++,
    },
    settle: async () => void settle(world),
    passMs: async (ms) => void runFor(world, ms),
    kill: async (node) => world.crashNode(nodeId(node)),
    start: async (node) => world.startNode(nodeId(node)),
    [Symbol.asyncDispose]: async () => {},
  };
}
