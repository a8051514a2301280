/** The chatter protocol as an area: stories about the grammar and the world's verbs need no cluster of the product. */
import { type NodeId, nodeId } from "../../src/engine/base/ids.ts";
import { type Area, defineArea } from "../../src/engine/sim/area.ts";
import { runFor, settle } from "../../src/engine/sim/steer.ts";
import { type ChatterWorld, chatterWorld, countOnDisk } from "./chatter.ts";

type ToyScene = { readonly world: ChatterWorld; readonly ids: readonly NodeId[] };

export const toyArea: Area = defineArea<ToyScene>({
  name: "toy",
  summary: "nodes that tell each other how often they have spoken",
  example: "world toy nodes=a,b",
  forms: ["nodes=a,b [seed=N]"],
  makeWorld(words) {
    const ids = words.nodes("nodes", "a,b");
    const world = chatterWorld(ids, { recording: true, seed: words.count("seed", 1) });
    settle(world);
    return { world, ids };
  },
  status: ({ world, ids }) =>
    ids.map(
      (id) =>
        `${id} ${world.runningOn(id).length > 0 ? "up" : "down"}: ${ids
          .filter((peer) => peer !== id)
          .map((peer) => `${peer}=${countOnDisk(world, id, peer)}`)
          .join(" ")}`,
    ),
  conditions: [
    {
      name: "heard",
      summary: "heard(a,b,3): a has kept count 3 of b",
      holds({ world }, argument) {
        const [id = "", peer = "", count = "0"] = argument.split(",");
        return countOnDisk(world, nodeId(id), nodeId(peer)) >= Number(count);
      },
    },
  ],
  transitions: { chatter: { telling: ["telling"] } },
  runSeed(seed, { eventsMax = 1_000 } = {}) {
    const world = chatterWorld(["a", "b", "c"], { seed, link: { delayMs: [0, 30], loss: 0.05 }, flushMs: [0, 5], keep: "random" });
    while (world.eventCount < eventsMax) world.step();
    const violation = seed === 13 ? { invariant: "13 is no seed", at: world.eventCount } : null;
    return { seed, events: world.eventCount, traceHash: world.trace.hash, violation, marks: world.trace.marks };
  },
  verbs: [
    {
      name: "ask",
      forms: ["NODE"],
      example: "ask a",
      summary: "a client asks a node what it has kept",
      run({ world }, words) {
        const call = world.request(words.node("node"), { kind: "count" });
        words.done();
        runFor(world, 1_000, () => call.state !== "waiting");
        return [call.body?.kind === "counted" ? call.body.text : call.state];
      },
    },
    {
      name: "toy shout",
      forms: ["NODE [loud=yes|no]"],
      example: "toy shout a",
      summary: "two words that are one name",
      run: (_scene, words) => [`${words.node("node")} shouts${words.oneOf("loud", ["yes", "no"], "no") === "yes" ? " LOUD" : ""}`, ""],
    },
    {
      name: "hold",
      forms: ["1.1 on NODE"],
      example: "hold 1.1 on a",
      summary: "an area's own form of a verb of the world",
      run(_scene, words) {
        const place = words.next(/^\d+\.\d+$/);
        if (place === null) return null;
        return [`holding ${place} ${words.rest().join(" ")}`];
      },
    },
  ],
});
