/**
 * Verbs of store synchronisation for stories and the REPL: where each node stands, and an operator's wish to have a store
 * replaced. Everything else happens by itself.
 */
import { EngineError } from "../base/errors.ts";
import type { NodeId } from "../base/ids.ts";
import { heldFrom } from "../sync/hold.ts";
import type { Hold, SyncState, Transfer } from "../sync/state.ts";
import type { Verb } from "./area.ts";
import type { PaxosStory } from "./paxos-story.ts";
import type { PaxosScene } from "./paxos-verbs.ts";
import { runNow } from "./steer.ts";

export const syncVerbs: readonly Verb<PaxosScene>[] = [
  {
    name: "sync status",
    forms: [""],
    example: "sync status",
    summary: "transfers and holds of every node, and what keeps trimming back",
    run: ({ story }) => story.nodeIds.flatMap((id) => statusLines(story, id)),
  },
  {
    name: "sync force",
    forms: ["NODE"],
    example: "sync force c",
    summary: "an operator wants the node's store replaced: it is cleared only when enough others have all it had",
    run({ story }, words) {
      const id = words.node("node");
      if (story.syncOf(id) === null) throw new EngineError("UNAVAILABLE", `${id} is down, or this world was made without profile=`);
      return story.told(() => {
        story.world.request(id, { kind: "sync.force" });
        runNow(story.world);
        return [`${id}: told to have its store replaced`];
      });
    },
  },
];

function statusLines(story: PaxosStory, id: NodeId): string[] {
  const state = story.syncOf(id);
  if (state === null) return [`${id}: ${story.isUp(id) ? "without synchronisation" : "down"}`];
  return [
    `${id}: ${requesterText(state)}`,
    ...[...state.transfers.values()].map((transfer) => `  to ${transfer.requester}: ${transferText(transfer)}`),
    ...[...state.holds.values()].map((hold) => `  holds for ${hold.provider}: ${holdText(hold)}`),
    ...(heldFrom(state, story.upMs(id)) === 0 ? ["  leads newly: nothing is trimmed"] : []),
  ];
}

function requesterText({ requester: { phase, flag, floor, durable, provider } }: SyncState): string {
  const copied = durable === null ? "" : `, ${durable.cursor === null ? "every key" : `${durable.number} chunks`} of ${durable.version} durable`;
  return `${phase}${provider === null ? "" : ` from ${provider}`}${flag === null ? "" : `, flag on, floor ${floor}`}${copied}`;
}

const transferText = ({ phase, version, acked, sent, sentBytes }: Transfer): string =>
  phase === "holding" ? "holding" : `${phase}, snapshot ${version}, ${acked} of ${sent} chunks acknowledged, ${sentBytes} bytes`;

const holdText = ({ phase, lowest }: Hold): string => `${phase}, versions from ${lowest} on`;
