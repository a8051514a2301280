/**
 * Whether another process already answers as this node (sync.md 3.7): where a folder was copied and both are started, the
 * members' messages go to one of the two, and what that one acked the other disk would not know. Asked at the address where
 * the members reach this node, before this process listens anywhere: whoever proves this node's key there is the twin.
 * Never says that there is none: it may be out of reach.
 */
import { EngineError } from "../base/errors.ts";
import type { NodeConfig } from "./config.ts";
import { endpointText } from "./endpoint.ts";
import { identityOf } from "./hosting.ts";
import { openLink } from "./link.ts";
import { probeOf } from "./replica.ts";

/** A twin that runs answers sooner; one that does not keeps nobody from starting. */
const TWIN_MS = 1_000;

/** Throws NODE_RUNNING. */
export async function mustBeOnlyOne(node: NodeConfig): Promise<void> {
  const { self, dir } = node;
  if (self.peer.port === 0 || !(await isAnswered(node))) return;
  const twin = `${self.name} answers at ${endpointText(self.peer)} already, under the identity in ${dir}`;
  throw new EngineError("NODE_RUNNING", `${twin}: where that is another folder, one of them is a copy, and only one may ever run`);
}

async function isAnswered(node: NodeConfig): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const { self } = node;
  const link = openLink({
    to: self.name,
    ...self.peer,
    identity: identityOf(node),
    peerKey: self.key,
    onAnswer: () => resolve(true),
    onLost: () => resolve(false),
  });
  link.send(1, probeOf(node));
  const timer = setTimeout(() => resolve(false), TWIN_MS);
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
    link.close();
  }
}
