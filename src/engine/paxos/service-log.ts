/**
 * The service `log`: the signer's guard register in the replicated store (merge.md section 2). Requests, answers and the
 * rule by which a swap is refused are those of the local record; what Paxos adds is that no single disk can lose it.
 */
import { invariant } from "../base/invariant.ts";
import { replicatedKeys } from "../store/keys.ts";
import type { Request } from "../wire/messages.ts";
import { objection, type RegisterRow, registerRecord, registerSays } from "./register.ts";
import { behind, type Service } from "./services.ts";
import type { View } from "./view.ts";

/** Where no row is yet, who may make the first one: the log's primary in its epoch. */
export type RegisterOwner = { readonly log: Uint8Array; readonly epoch: number; readonly primary: string };

const isRegister = (body: Request): boolean => body.kind === "register.read" || body.kind === "register.swap";

export function logService(owners: readonly RegisterOwner[]): Service {
  const rowOf = (log: Uint8Array, view: View): RegisterRow => {
    const found = view.get(replicatedKeys.register(log));
    if (found !== null) return registerRecord.decode(found.value);
    const owner = owners.find((each) => each.log.toHex() === log.toHex());
    return { epoch: owner?.epoch ?? 0, primary: owner?.primary ?? "", head: null, moved: 0 };
  };
  return {
    name: "log",
    format: 1,
    handles: isRegister,
    keysOf: (body) => (body.kind === "register.swap" ? [replicatedKeys.register(body.log)] : []),
    isAlone: () => false,
    evaluate({ body, from }, view) {
      invariant(body.kind === "register.swap", `the register is not written by ${body.kind}`);
      const row = rowOf(body.log, view);
      if (objection(from, body, row) !== null) return { ops: [], outcome: registerSays("register.conflict", row) };
      const next: RegisterRow = { ...row, head: body.next };
      return {
        ops: [{ op: "put", key: replicatedKeys.register(body.log), value: registerRecord.encode(next) }],
        outcome: registerSays("register.swapped", next),
      };
    },
    read(body, view) {
      invariant(body.kind === "register.read", `the register does not read ${body.kind}`);
      return registerSays("register.is", rowOf(body.log, view));
    },
    nameOf: behind("log/"),
  };
}
