/**
 * Verbs of the area `sync` that clients of a cluster have too: keys, the signer's register, and where every member stands.
 * Each answers with what its client was told and the marks that were met meanwhile.
 */

import { utf8 } from "../base/bytes.ts";
import { EngineError } from "../base/errors.ts";
import type { NodeId } from "../base/ids.ts";
import { historyVersion } from "../paxos/services.ts";
import { replicatedKeys } from "../store/keys.ts";
import { historyIn } from "../store/versions.ts";
import type { Request, RequestOf } from "../wire/messages.ts";
import type { Scene, Verb } from "./area.ts";
import { diffDisks } from "./disk.ts";
import { put } from "./paxos-clients.ts";
import { answerText, type PaxosStory } from "./paxos-story.ts";
import type { PaxosCall } from "./paxos-world.ts";
import { runNow } from "./steer.ts";
import type { Words } from "./words.ts";

export type PaxosScene = Scene & { readonly story: PaxosStory };

const WRITES_MAX = 10_000;

export const paxosVerbs: readonly Verb<PaxosScene>[] = [
  {
    name: "kv put",
    forms: ["KEY VALUE [at=NODE] [if=VERSION|*|absent] [start]"],
    example: "kv put k v",
    summary: "a client writes a key, at the leader or another node; with `start` it does not wait: `answers` shows what it was told",
    run({ story }, words) {
      const [key, value] = [words.text("key"), words.text("value")];
      const at = nodeOf(story, words);
      const condition = words.key("if");
      const body = put(key, utf8(value), conditionOf(words, condition));
      return ask(story, words, `kv put ${key}${at.said}`, (id) => story.clients.ask(id, body), at.id);
    },
  },
  {
    name: "kv get",
    forms: ["KEY [at=NODE] [local] [min=VERSION] [start]"],
    example: "kv get k at=b",
    summary: "a client reads a key: linearizable, or `local` from the node's own state",
    run({ story }, words) {
      const key = words.text("key");
      const at = nodeOf(story, words);
      const local = words.flag("local");
      const body: RequestOf<"kv.read"> = { kind: "kv.read", key: utf8(key), local, minVersion: words.count("min", 0) };
      return ask(story, words, `kv get ${key}${at.said}${local ? " local" : ""}`, (id) => story.clients.ask(id, body), at.id);
    },
  },
  {
    name: "kv delete",
    forms: ["KEY [at=NODE] [if=VERSION|*] [start]"],
    example: "kv delete k",
    summary: "a client deletes a key",
    run({ story }, words) {
      const key = words.text("key");
      const at = nodeOf(story, words);
      const { ifMatch } = conditionOf(words, words.key("if"));
      const body: RequestOf<"kv.delete"> = { kind: "kv.delete", key: utf8(key), ifMatch };
      return ask(story, words, `kv delete ${key}${at.said}`, (id) => story.clients.ask(id, body), at.id);
    },
  },
  {
    name: "kv scan",
    forms: ["[PREFIX] [at=NODE] [after=KEY] [limit=N]"],
    example: "kv scan k limit=10",
    summary: "a client lists the keys with a prefix, from one version",
    run({ story }, words) {
      const at = nodeOf(story, words);
      const after = words.key("after");
      const limit = words.count("limit", 0);
      const prefix = words.optional("prefix") ?? "";
      const body: Request = { kind: "kv.scan", prefix: utf8(prefix), after: after === null ? null : utf8(after), limit, local: false, minVersion: 0 };
      return ask(story, words, `kv scan${prefix === "" ? "" : ` ${prefix}`}${at.said}`, (id) => story.request(id, body), at.id);
    },
  },
  {
    name: "register",
    forms: ["[at=NODE]", "expect=SIZE|none next=SIZE [at=NODE]"],
    example: "register expect=none next=0",
    summary: "the signer's register in the service `log`: what it holds, or a swap of its head by the node that is asked",
    run: ({ story }, words) => register(story, words),
  },
  {
    name: "trim",
    forms: ["[at=NODE]"],
    example: "trim",
    summary: "a person wants old versions trimmed now, as far as nothing needs them; `at` must lead",
    run({ story }, words) {
      const { id, said } = nodeOf(story, words);
      return ask(story, words, `trim${said}`, (node) => story.request(node, { kind: "paxos.trim" }), id);
    },
  },
  {
    name: "history",
    forms: ["NODE"],
    example: "history a",
    summary: "which versions a node's store keeps, and of each service which changes are still told, with the versions they are about",
    run({ story }, words) {
      const node = words.node("node");
      if (!story.nodeIds.includes(node)) throw unknown(story, node);
      return historyLines(story, node);
    },
  },
  {
    name: "members",
    forms: ["[at=NODE]"],
    example: "members",
    summary: "who votes, as the cluster map says",
    run({ story }, words) {
      const { id, said } = nodeOf(story, words);
      return ask(story, words, `members${said}`, (node) => story.request(node, { kind: "cluster.read" }), id);
    },
  },
  {
    name: "member",
    forms: ["add|remove|replace NODE [rank=N] [at=NODE] [start]"],
    example: "member replace c",
    summary: "change the members: one that is added or replaced votes with the disk it has now",
    run({ story }, words) {
      const what = words.text("change");
      const { id, said } = nodeOf(story, words);
      const node = words.node("node");
      const rank = words.count("rank", story.nodeIds.indexOf(node));
      const body: Request = { kind: "cluster.change", what, id: node, rank, birth: story.birthOf(node) };
      return ask(story, words, `member ${what} ${node}${said}`, (to) => story.request(to, body), id);
    },
  },
  {
    name: "boot",
    forms: ["NODE"],
    example: "boot b",
    summary: "a node that has started asks for its boot number",
    run({ story }, words) {
      const node = words.node("node");
      return ask(story, words, `boot ${node}`, (to) => story.request(to, { kind: "cluster.boot", id: node }), node);
    },
  },
  {
    name: "lose-disk",
    forms: ["NODE"],
    example: "lose-disk c",
    summary: "a node's disk is gone, and an empty one with another birth is in its place; the node is down",
    run({ story }, words) {
      const node = words.node("node");
      words.done();
      if (!story.nodeIds.includes(node)) throw unknown(story, node);
      return story.told(() => {
        story.diskReplaced(node);
        story.loseDisk(node);
        return [`${node}: an empty disk`];
      });
    },
  },
  {
    name: "folder",
    forms: ["NODE restore=NAME"],
    example: "folder c restore=old",
    summary: "put an older copy of a node's folder in its place: the node goes down for it and comes up again",
    run({ story }, words) {
      const name = words.key("restore");
      if (name === null) return null;
      const node = words.node("node");
      words.done();
      return story.told(() => {
        story.diskReplaced(node);
        if (story.isUp(node)) story.world.crashNode(node);
        story.world.restoreFolder(node, name);
        story.world.startNode(node);
        runNow(story.world);
        return [];
      });
    },
  },
  {
    name: "write",
    forms: ["COUNT [at=NODE] [burst]"],
    example: "write 20",
    summary: "so many generated writes: one after the other, or all at once",
    run: ({ story }, words) => writeMany(story, words),
  },
  {
    name: "answers",
    forms: [""],
    example: "answers",
    summary: "what clients were told that did not wait; those who still wait stay on the list",
    run({ story }) {
      const lines = story.asked.map(({ text, call }) => answerText(text, call));
      const open = story.asked.filter(({ call }) => call.state === "waiting");
      story.asked.splice(0, story.asked.length, ...open);
      return lines.length === 0 ? ["nobody waits"] : lines;
    },
  },
  {
    name: "paxos status",
    forms: ["[NODE]"],
    example: "paxos status",
    summary: "phase, epoch, promise, versions and leases of every member",
    run({ story }, words) {
      const only = words.optionalNode("node");
      if (only !== null && !story.nodeIds.includes(only)) throw unknown(story, only);
      return story.nodeIds.filter((id) => only === null || id === only).map((id) => story.nodeLine(id));
    },
  },
  {
    name: "diff",
    forms: ["all"],
    example: "diff all",
    summary: "compare the replicated stores of all nodes",
    run({ story }, words) {
      if (!words.flag("all")) return null;
      return [diffAll(story)];
    },
  },
  {
    name: "trace",
    forms: ["on", "off"],
    example: "trace on",
    summary: "answer with every message, timer and flush, or with deeds and marks only",
    run({ story }, words) {
      story.tracing = words.flag("on");
      if (!story.tracing && !words.flag("off")) throw words.refuse("want on or off");
      return [story.tracing ? "every message is shown" : "deeds and marks are shown"];
    },
  },
];

function nodeOf(story: PaxosStory, words: Words): { readonly id: NodeId; readonly said: string } {
  const named = words.key("at");
  const id = (named ?? story.leader() ?? story.nodeIds.find((each) => story.isUp(each)) ?? story.nodeIds[0]) as NodeId;
  if (!story.nodeIds.includes(id)) throw unknown(story, id);
  return { id, said: named === null ? "" : ` at ${id}` };
}

const unknown = (story: PaxosStory, id: string): EngineError => new EngineError("UNKNOWN_NODE", `node ${id}: there are ${story.nodeIds.join(", ")}`);

/** A version, any version, or none at all. */
function conditionOf(words: Words, text: string | null): { ifMatch: number | null; ifNoneMatch: boolean } {
  if (text === null || text === "absent") return { ifMatch: null, ifNoneMatch: text !== null };
  if (text !== "*" && !/^[1-9]\d{0,14}$/.test(text)) throw words.refuse(`if=${text}: want a version, * or absent`);
  return { ifMatch: text === "*" ? 0 : Number(text), ifNoneMatch: false };
}

function ask(story: PaxosStory, words: Words, text: string, send: (id: NodeId) => PaxosCall, id: NodeId): string[] {
  const isWaiting = !words.flag("start");
  words.done();
  return story.told(() => {
    const call = send(id);
    if (isWaiting) return [answerText(text, story.wait(call))];
    story.asked.push({ text, call });
    runNow(story.world);
    return [];
  });
}

function writeMany(story: PaxosStory, words: Words): string[] {
  const count = words.count("count");
  const { id } = nodeOf(story, words);
  const isBurst = words.flag("burst");
  words.done();
  if (count < 1 || count > WRITES_MAX) throw words.refuse(`count is ${count}, want 1 to ${WRITES_MAX}`);
  return story.told(() => {
    const calls: PaxosCall[] = [];
    for (let i = 0; i < count; i++) {
      const call = story.put(id);
      calls.push(isBurst ? call : story.wait(call));
    }
    const written = calls.map((call) => story.wait(call)).flatMap(({ body }) => (body?.kind === "kv.written" ? [body.version] : []));
    const versions = new Set(written).size;
    return [`${written.length} of ${count} written in ${versions} versions${versions === 0 ? "" : `, ${Math.min(...written)} to ${Math.max(...written)}`}`];
  });
}

function register(story: PaxosStory, words: Words): string[] {
  const { id, said } = nodeOf(story, words);
  const [expect, next] = [words.key("expect"), words.key("next")];
  words.done();
  const { log } = story;
  const root = (size: number): Uint8Array => new Uint8Array(32).fill(size % 251);
  if (expect === null || next === null)
    return story.told(() => [answerText(`register${said}`, story.wait(story.request(id, { kind: "register.read", log, epoch: 1 })))]);
  const [size, before] = [Number(next), expect === "none" ? null : { size: Number(expect), root: root(Number(expect)) }];
  const head = { epoch: 1, size, root: root(size), note: utf8(`size ${size}`), timeMs: 0 };
  const body: Request = { kind: "register.swap", log, epoch: 1, expect: before, next: head };
  return story.told(() => [answerText(`register ${expect} to ${next}${said}`, story.wait(story.request(id, body, "a" as NodeId)))]);
}

/** Every service that ever wrote something. */
const SERVICES: readonly string[] = ["cluster", "kv", "log"];

function historyLines(story: PaxosStory, node: NodeId): string[] {
  const snap = story.snapOf(node);
  const { first, last } = historyIn(snap);
  const lines = SERVICES.flatMap((service) => {
    const rows = [...snap.range("replicated", replicatedKeys.history(service, 0), replicatedKeys.history(service, Number.MAX_SAFE_INTEGER))];
    const versions = rows.map(([, value]) => historyVersion(value));
    return versions.length === 0 ? [`${service}: nothing`] : [`${service}: ${versions.length} changes, versions ${versions[0]} to ${versions.at(-1)}`];
  });
  return [`${node}: versions ${first} to ${last}`, ...lines];
}

function diffAll(story: PaxosStory): string {
  const [one, ...others] = story.nodeIds;
  let count = 0;
  for (const other of others) count += diffDisks(story.world.diskOf(one as NodeId), story.world.diskOf(other), "replicated", 1_000).length;
  return `${story.nodeIds.map((id) => `${id} at ${story.appliedOf(id)}`).join(", ")}: ${count} differences`;
}
