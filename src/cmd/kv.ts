/**
 * `cairn kv`: small values under names, decided by a majority of the cluster (sync.md 3.8). A value is bytes: `get` prints
 * exactly them, `put` takes them from an argument or from stdin.
 */
import { fromUtf8 } from "../engine/base/bytes.ts";
import { EngineError } from "../engine/base/errors.ts";
import { resolveCluster } from "./cluster.ts";
import { askKv, type KvReply, keyPath } from "./kv-client.ts";
import { type Context, command } from "./spec.ts";

const errors = ["PAXOS_NO_QUORUM", "PAXOS_OUTCOME_UNKNOWN", "NOT_READY", "UNAVAILABLE", "TIMEOUT", "NOT_FOUND"] as const;
const keyArg = { name: "key", means: "up to 1,000 bytes" } as const;
const localOption = { name: "local", form: "flag", means: "the state of the first node that answers, which may be old" } as const;
const ifVersionOption = { name: "if-version", form: "count", value: "V", means: "only where the key has this version; `kv get --json` tells it" } as const;

type Asked = Pick<Context, "cluster" | "timeoutMs">;
type Ask = Parameters<typeof askKv>[1];

async function ask({ cluster, timeoutMs }: Asked, what: Ask): Promise<KvReply> {
  return askKv(await resolveCluster(cluster), what, timeoutMs);
}

/** A command's key may not be empty: that is the address of a scan. */
function pathOf(key: string): string {
  if (key === "") throw new EngineError("USAGE", "the key is empty");
  return keyPath(key);
}

const get = command({
  name: "kv get",
  summary: "Print the value of a key, as its bytes",
  args: [keyArg],
  options: [localOption],
  errors,
  examples: ["cairn kv get motd", "cairn kv get motd --json"],
  async run(ctx) {
    const { key } = ctx.args;
    const reply = await ask(ctx, { method: "GET", path: `${pathOf(key)}${ctx.options.local ? "?consistency=local" : ""}` });
    const readVersion = reply.header("x-cairn-read-version");
    if (reply.status === 404) throw new EngineError("NOT_FOUND", `no key ${JSON.stringify(key)} at version ${readVersion}`);
    const version = reply.header("x-cairn-version");
    if (ctx.json) return ctx.answer({ key, version, readVersion, ...valueField(reply.body) }, "");
    await ctx.answerBytes(reply.body);
  },
});

function valueField(value: Uint8Array): { readonly value: string } | { readonly valueBase64: string } {
  try {
    return { value: fromUtf8(value) };
  } catch {
    return { valueBase64: value.toBase64() }; // bytes that are no text
  }
}

const put = command({
  name: "kv put",
  summary: "Write a value, from the argument or from stdin; print the version that wrote it",
  args: [keyArg, { name: "value", optional: true, means: "the value; without it stdin is read to its end" }],
  options: [ifVersionOption, { name: "if-absent", form: "flag", means: "only where there is no such key" }],
  errors: [...errors, "KV_CONDITION", "HTTP_BODY_TOO_LARGE"],
  examples: ["cairn kv put motd 'all is well'", "cairn kv put motd --if-version 12 < motd.txt"],
  async run(ctx) {
    const { key, value } = ctx.args;
    const { "if-version": version, "if-absent": isAbsent } = ctx.options;
    if (version !== undefined && isAbsent) throw new EngineError("USAGE", "--if-version and --if-absent exclude each other");
    const headers = isAbsent ? { "if-none-match": "*" } : matching(version);
    const body = value === undefined ? new Uint8Array(await Bun.stdin.arrayBuffer()) : new TextEncoder().encode(value);
    const reply = await ask(ctx, { method: "PUT", path: pathOf(key), headers, body });
    const written = reply.header("x-cairn-version");
    await ctx.answer({ key, version: written }, String(written));
  },
});

const remove = command({
  name: "kv delete",
  summary: "Remove a key; one that is not there is no error",
  args: [keyArg],
  options: [ifVersionOption],
  errors: [...errors, "KV_CONDITION"],
  examples: ["cairn kv delete motd"],
  async run(ctx) {
    const { key } = ctx.args;
    const reply = await ask(ctx, { method: "DELETE", path: pathOf(key), headers: matching(ctx.options["if-version"]) });
    const version = reply.header("x-cairn-version");
    await ctx.answer({ key, version }, String(version));
  },
});

function matching(version: number | undefined): Record<string, string> {
  if (version === 0) throw new EngineError("BAD_OPTION", "--if-version 0: no version is 0; --if-absent asks for a key that is not there");
  return version === undefined ? {} : { "if-match": `"${version}"` };
}

type Row = { readonly key?: string; readonly keyBase64?: string; readonly version: number; readonly value?: string; readonly valueBase64?: string };

const scan = command({
  name: "kv scan",
  summary: "List keys with their versions and values, in key order",
  args: [{ name: "prefix", optional: true, means: "only keys that begin with this" }],
  options: [
    { name: "after", form: "string", value: "KEY", means: "only keys behind this one: the last of an earlier list" },
    { name: "limit", form: "count", value: "N", default: "100", means: "so many at most" },
    localOption,
  ],
  errors,
  examples: ["cairn kv scan", "cairn kv scan users/ --limit 10 --json"],
  async run(ctx) {
    const { after, limit, local } = ctx.options;
    if (limit < 1) throw new EngineError("BAD_OPTION", "--limit 0: want at least 1");
    const rows: Row[] = [];
    let from = after;
    for (let more = true; more && rows.length < limit; ) {
      const query = new URLSearchParams({ prefix: ctx.args.prefix ?? "", limit: String(Math.min(limit - rows.length, PAGE_COUNT)) });
      if (from !== undefined) query.set("after", from);
      if (local) query.set("consistency", "local");
      const page = parseRows((await ask(ctx, { method: "GET", path: `?${query}` })).body);
      rows.push(...page);
      from = page.at(-1)?.key;
      more = page.length > 0 && from !== undefined; // a key that is no text cannot be asked behind
    }
    const text = rows.map(
      ({ key, keyBase64, version, value, valueBase64 }) => `${key ?? `base64:${keyBase64}`}\t${version}\t${value ?? `base64:${valueBase64}`}`,
    );
    await ctx.answer(rows, text.join("\n"));
  },
});

const PAGE_COUNT = 1_024;

const parseRows = (body: Uint8Array): Row[] =>
  fromUtf8(body)
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as Row);

export const kvCommands = [get, put, remove, scan];
