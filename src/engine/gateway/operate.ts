/**
 * What an operator asks of a running node over its admin port, beside reading: `POST` of a path below, answered by one object
 * of JSON. Each is a question to the node's replica, whose rules decide; nothing is done here. A path that changes something
 * is never read with GET, so that no link or picture can do it.
 */
import { fromHex, fromUtf8 } from "../base/bytes.ts";
import { EngineError } from "../base/errors.ts";
import type { Answer, AnswerOf } from "../wire/messages.ts";
import { type HttpAnswer, type HttpRequest, jsonAnswer, methodRefused, splitTarget } from "./http-types.ts";
import { type AskReplica, mustBe } from "./kvhttp.ts";

export type Operator = {
  readonly ask: AskReplica;
  /** Its store is to be replaced by another one's. */
  force(): Promise<Answer>;
  /** Reads the members' keys from the config again; returns whose are others now. */
  takeKeys(): Promise<readonly string[]>;
};
type Operation = (operator: Operator, request: HttpRequest) => Promise<object>;

const operations: Readonly<Record<string, Operation>> = {
  "/paxos/trim": async ({ ask }) => withoutKind(mustBe(await ask({ kind: "paxos.trim" }), "paxos.trimmed")),
  "/sync/force": async (operator) => {
    mustBe(await operator.force(), "sync.noted");
    return { asked: true };
  },
  "/members/change": change,
  "/members/keys": async ({ takeKeys }) => ({ changed: await takeKeys() }),
};

/** Members with their disks, by the newest map: a linearizable read. */
export async function answerMembers(ask: AskReplica): Promise<HttpAnswer> {
  return jsonAnswer(200, shownMap(mustBe(await ask({ kind: "cluster.read" }), "cluster.is")));
}

const BODY_BYTES_MAX = 4_096;

/** `{"what", "id", "rank", "birth"}`: decided by a proposal of its own. */
async function change({ ask }: Operator, request: HttpRequest): Promise<object> {
  const { what, id, rank = 0, birth } = parsed(await request.body(BODY_BYTES_MAX, "HTTP_BODY_TOO_LARGE"));
  const disk = fromHex(String(birth));
  if (typeof what !== "string" || typeof id !== "string" || disk?.length !== BIRTH_BYTES || !Number.isSafeInteger(rank))
    throw new EngineError("USAGE", `want {"what": "add" or "replace", "id": …, "rank": …, "birth": ${2 * BIRTH_BYTES} hex digits}`);
  if (what !== "replace" && what !== "add") throw new EngineError("USAGE", `${what}: members are added or replaced here`);
  return shownMap(mustBe(await ask({ kind: "cluster.change", what, id, rank: Number(rank), birth: disk }), "cluster.is"));
}

const BIRTH_BYTES = 8;

function parsed(body: Uint8Array): Readonly<Record<string, unknown>> {
  try {
    return JSON.parse(fromUtf8(body)) as Readonly<Record<string, unknown>>;
  } catch (cause) {
    throw new EngineError("USAGE", "the body is no JSON", { cause });
  }
}

const shownMap = ({ version, members: all }: AnswerOf<"cluster.is">): object => ({
  version,
  members: all.map(({ birth, ...member }) => ({ ...member, birth: birth.toHex() })),
});

export const OPERATE_PATHS = Object.keys(operations);

export async function answerOperate(request: HttpRequest, operator: () => Operator): Promise<HttpAnswer> {
  const { path } = splitTarget(request.target);
  const operation = operations[path];
  if (operation === undefined) throw new EngineError("NOT_FOUND", `${path} is no operation`);
  if (request.method !== "POST") return methodRefused(request.method, "POST");
  return jsonAnswer(200, await operation(operator(), request));
}

const withoutKind = ({ kind: _, ...fields }: { readonly kind: string }): object => fields;
