/**
 * What an operator asks of a running node over its admin port, beside reading: `POST` of a path below, answered by one object
 * of JSON. Each is a question to the node's replica, whose rules decide; nothing is done here. A path that changes something
 * is never read with GET, so that no link or picture can do it.
 */
import { EngineError } from "../base/errors.ts";
import type { Answer } from "../wire/messages.ts";
import { type HttpAnswer, type HttpRequest, jsonAnswer, methodRefused, splitTarget } from "./http-types.ts";
import { type AskReplica, mustBe } from "./kvhttp.ts";

export type Operator = {
  readonly ask: AskReplica;
  /** Its store is to be replaced by another one's. */
  force(): Promise<Answer>;
};
type Operation = (operator: Operator, request: HttpRequest) => Promise<object>;

const operations: Readonly<Record<string, Operation>> = {
  "/paxos/trim": async ({ ask }) => withoutKind(mustBe(await ask({ kind: "paxos.trim" }), "paxos.trimmed")),
  "/sync/force": async (operator) => {
    mustBe(await operator.force(), "sync.noted");
    return { asked: true };
  },
};

export const OPERATE_PATHS = Object.keys(operations);

export async function answerOperate(request: HttpRequest, operator: () => Operator): Promise<HttpAnswer> {
  const { path } = splitTarget(request.target);
  const operation = operations[path];
  if (operation === undefined) throw new EngineError("NOT_FOUND", `${path} is no operation`);
  if (request.method !== "POST") return methodRefused(request.method, "POST");
  return jsonAnswer(200, await operation(operator(), request));
}

const withoutKind = ({ kind: _, ...fields }: { readonly kind: string }): object => fields;
