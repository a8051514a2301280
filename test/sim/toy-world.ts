/** The wire of toy worlds: real messages; commands and texts of local clients never leave a node. */
import type { WireCodec, World } from "../../src/engine/sim/world.ts";
import { type Answer, answers, type Request, requests } from "../../src/engine/wire/messages.ts";
import type { ToyCommand, ToyReply } from "../contract/toy-core.ts";

export type ToyWorld = World<Request | ToyCommand, Answer, Request, ToyReply>;

export const toyWire: WireCodec<Request | ToyCommand, Answer, Request, ToyReply> = {
  encodeRequest: (body) => requests.encode(body),
  decodeRequest: (raw) => requests.decode(raw),
  encodeAnswer: (body) => {
    if (body.kind === "said") throw new Error("a text is an answer to a local client only");
    return answers.encode(body);
  },
  decodeAnswer: (raw) => answers.decode(raw),
};
