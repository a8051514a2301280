/**
 * Writes `config.toml` of a node's folder, in the layout that `config.ts` reads. Only what a node cannot do without is
 * written; the knobs follow as given, so that defaults stay defaults. The file is for people: it is never rewritten
 * by a running node.
 */
import { join } from "node:path";
import { toHex } from "../base/bytes.ts";
import type { NodeId } from "../base/ids.ts";
import { publicKeyText } from "../wire/identity.ts";
import { CONFIG_FILE, type Member } from "./config.ts";
import { type Endpoint, endpointText } from "./endpoint.ts";
import { replaceFile } from "./replace-file.ts";

export type ConfigDraft = {
  readonly clusterId: Uint8Array;
  readonly origin: string;
  readonly logKey: Uint8Array;
  readonly self: NodeId;
  readonly listen: { readonly peer: Endpoint; readonly admin: Endpoint; readonly log: Endpoint };
  readonly members: readonly Member[];
  /** `[merge]` settings that differ from their defaults. */
  readonly knobs: Readonly<Record<string, number | string>>;
};

/** Mode 0600: the file may come to hold a token. */
export const writeConfig = (dir: string, draft: ConfigDraft): Promise<void> => replaceFile(join(dir, CONFIG_FILE), configText(draft), 0o600);

function configText(draft: ConfigDraft): string {
  const sections = [
    ["# Settings of one node. `cairn config show --origin` prints every setting in force, and where it comes from."],
    ["[cluster]", pair("id", toHex(draft.clusterId)), pair("origin", draft.origin), pair("logKey", publicKeyText(draft.logKey))],
    ["[node]", pair("name", draft.self)],
    ["[listen]", ...(["peer", "admin", "log"] as const).map((port) => pair(port, endpointText(draft.listen[port])))],
    ["[merge]", ...Object.entries(draft.knobs).map(([key, value]) => pair(key, value))],
    ...draft.members.map(memberLines),
  ];
  return `${sections.map((lines) => lines.join("\n")).join("\n\n")}\n`;
}

function memberLines(member: Member): string[] {
  return [
    "[[member]]",
    pair("name", member.name),
    `roles = [${member.roles.map(quoted).join(", ")}]`,
    pair("peer", endpointText(member.peer)),
    pair("log", endpointText(member.log)),
    pair("admin", endpointText(member.admin)),
    pair("key", publicKeyText(member.key)),
    pair("cosignerKey", publicKeyText(member.cosignerKey)),
    pair("receiptKey", publicKeyText(member.receiptKey)),
    pair("number", member.number),
    pair("birth", toHex(member.birth)),
  ];
}

const pair = (key: string, value: number | string): string => `${key} = ${typeof value === "string" ? quoted(value) : value}`;
/** A JSON string is a TOML basic string, as long as no control character is in it: none of ours has one. */
const quoted = (text: string): string => JSON.stringify(text);
