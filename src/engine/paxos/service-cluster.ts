/**
 * The service `cluster` (sync.md 3.7): who the members are and which disks they vote with, one change a proposal; and the
 * boot numbers, raised at each start of a node's process. A change is in force from the next version on; the member that
 * comes back with another disk is taken in by a proposal that is decided without its vote.
 */
import { readU64be } from "../base/bytes.ts";
import type { NodeId } from "../base/ids.ts";
import { invariant } from "../base/invariant.ts";
import { replicatedKeys } from "../store/keys.ts";
import { type Answer, type Request, type RequestOf, refused } from "../wire/messages.ts";
import { type ClusterMap, decodeMap, memberOf, putMap } from "./cluster-map.ts";
import { putNumber } from "./records.ts";
import { behind, type Effected, type Service } from "./services.ts";
import type { Command } from "./state.ts";
import type { View } from "./view.ts";

const MEMBERS_MAX = 16;
type Ask = RequestOf<"cluster.change" | "cluster.read" | "cluster.boot">;
type Change = RequestOf<"cluster.change">;

const isCluster = (body: Request): body is Ask => body.kind === "cluster.change" || body.kind === "cluster.read" || body.kind === "cluster.boot";

export const clusterService: Service = {
  name: "cluster",
  format: 1,
  handles: isCluster,
  keysOf(body) {
    if (body.kind === "cluster.change") return [replicatedKeys.clusterMap()];
    return body.kind === "cluster.boot" ? [bootKey(body.id)] : [];
  },
  isAlone: (body) => body.kind === "cluster.change",
  evaluate: ({ body }: Command, view, version) => {
    invariant(body.kind === "cluster.change" || body.kind === "cluster.boot", `cluster does not write ${body.kind}`);
    return body.kind === "cluster.boot" ? boot(body.id, view, version) : change(body, mapOf(view), version);
  },
  read: (_, view) => said(mapOf(view)),
  nameOf: behind("cluster/"),
};

const bootKey = (id: string): Uint8Array => replicatedKeys.boot(id);

/** The first leader put the config's map into its first version. */
function mapOf(view: View): ClusterMap {
  const found = view.get(replicatedKeys.clusterMap());
  invariant(found !== null, "a cluster that decided anything has a map");
  return decodeMap(found.value);
}

const said = ({ version, members }: ClusterMap): Answer => ({ kind: "cluster.is", version, members });

function boot(id: string, view: View, version: number): Effected {
  const found = view.get(bootKey(id));
  const next = (found === null ? 0 : (readU64be(found.value) ?? 0)) + 1;
  return { ops: [putNumber(bootKey(id), next)], outcome: { kind: "cluster.booted", boot: next, version } };
}

function change(body: Change, map: ClusterMap, version: number): Effected {
  const next = changed(body, map, version);
  if ("kind" in next) return { ops: [], outcome: next };
  return { ops: [putMap(next)], outcome: said(next) };
}

function changed({ what, id, rank, birth }: Change, map: ClusterMap, version: number): ClusterMap | Answer {
  const known = memberOf(map, id);
  const others = map.members.filter((member) => member.id !== id);
  switch (what) {
    case "add": {
      if (known !== null) return refused("NODE_EXISTS", `${id} is a member: number ${known.number}`);
      if (map.members.length === MEMBERS_MAX) return refused("USAGE", `there are ${MEMBERS_MAX} members, at most that many vote`);
      const number = map.lastNumber + 1;
      return { version, lastNumber: number, members: [...map.members, { id: id as NodeId, number, rank, birth }] };
    }
    case "remove":
      if (known === null) return refused("UNKNOWN_NODE", `${id} is no member: there are ${names(map)}`);
      if (others.length === 0) return refused("USAGE", `${id} is the last member`);
      return { ...map, version, members: others };
    case "replace":
      if (known === null) return refused("UNKNOWN_NODE", `${id} is no member: there are ${names(map)}`);
      return { ...map, version, members: map.members.map((member) => (member.id === id ? { ...member, birth } : member)) };
    default:
      return refused("USAGE", `${what} is no change of members: add, remove, replace`);
  }
}

const names = ({ members }: ClusterMap): string => members.map(({ id }) => id).join(", ");
