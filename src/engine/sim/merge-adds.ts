/**
 * Clients' adds that were not answered yet: each receipt is held against the disks at the moment it comes (I6 of merge.md
 * section 7). Stories, seed runs and the crash grid follow theirs here.
 */
import type { AddAnswer } from "../merge/config.ts";
import type { MergeCheckers } from "./merge-checkers.ts";
import type { MergeReply } from "./merge-world.ts";
import type { ClientCall } from "./process.ts";

export class MergeAdds {
  private readonly checkers: MergeCheckers;
  private readonly open: ClientCall<MergeReply>[] = [];

  constructor(checkers: MergeCheckers) {
    this.checkers = checkers;
  }

  follow(call: ClientCall<MergeReply>): void {
    this.open.push(call);
  }

  /** What was asked so far is not looked at any more. */
  forget(): void {
    this.open.length = 0;
  }

  check(): string | null {
    for (let i = 0; i < this.open.length; ) {
      const call = this.open[i] as ClientCall<MergeReply>;
      if (call.state === "waiting") {
        i++;
        continue;
      }
      this.open.splice(i, 1);
      const receipt = receiptOf(call);
      const wrong = receipt === null ? null : this.checkers.receiptIssued(receipt);
      if (wrong !== null) return wrong;
    }
    return null;
  }
}

/** The receipts that came, or null. */
export function receiptOf({ body }: ClientCall<MergeReply>): AddAnswer | null {
  return body !== null && "kind" in body && body.kind === "added" ? (body as AddAnswer) : null;
}
