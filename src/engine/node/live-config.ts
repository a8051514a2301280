/**
 * The config of a node while it runs: as it was loaded, but for the keys of the other members, which an operator may change in
 * `config.toml` when a member was lost with its identity (sync.md 3.7). Links and allow lists ask here each time. Everything
 * else of the file waits for the next start.
 */
import { equalBytes, toHex } from "../base/bytes.ts";
import type { NodeId } from "../base/ids.ts";
import { loadNode, type Member, type NodeConfig } from "./config.ts";

export class LiveConfig {
  /** Its `members` and `merge` are those of now. */
  readonly node: NodeConfig;
  private readonly now: { members: readonly Member[]; merge: NodeConfig["merge"] };
  private allowedKeys: ReadonlyMap<string, NodeId>;

  constructor(loaded: NodeConfig) {
    const now = { members: loaded.members, merge: loaded.merge };
    this.now = now;
    this.allowedKeys = allowedOf(loaded.members);
    this.node = {
      ...loaded,
      get members() {
        return now.members;
      },
      get merge() {
        return now.merge;
      },
    };
  }

  /** Who may open a link, by key in hex. */
  allowed(): ReadonlyMap<string, NodeId> {
    return this.allowedKeys;
  }

  /** Reads the file again; returns whose keys are others now. Throws BAD_CONFIG as a start would. */
  async takeKeys(): Promise<readonly NodeId[]> {
    const { now, node } = this;
    const { members, merge } = await loadNode(node.dir);
    const changed: NodeId[] = [];
    now.members = now.members.map((member) => {
      const found = members.find(({ name }) => name === member.name);
      if (found === undefined || member.name === node.self.name || sameKeys(found, member)) return member;
      changed.push(member.name);
      return { ...member, key: found.key, cosignerKey: found.cosignerKey, receiptKey: found.receiptKey };
    });
    now.merge = { ...now.merge, cosignerKeys: merge.cosignerKeys, receiptKeys: merge.receiptKeys };
    this.allowedKeys = allowedOf(now.members);
    return changed;
  }
}

const allowedOf = (members: readonly Member[]): ReadonlyMap<string, NodeId> => new Map(members.map(({ key, name }) => [toHex(key), name]));

const sameKeys = (a: Member, b: Member): boolean =>
  equalBytes(a.key, b.key) && equalBytes(a.cosignerKey, b.cosignerKey) && equalBytes(a.receiptKey, b.receiptKey);
