/**
 * Phases of synchronisation (sync.md sections 4.2 to 4.4), and which may follow which: of a requester, of a provider's transfer and
 * of a leader's hold. Any other change is a broken invariant; `help states` prints these tables.
 */
export type RequesterPhase = "probing" | "requested" | "clearing" | "copying" | "replaying" | "verifying" | "joined";
export const requesterTransitions: Record<RequesterPhase, readonly RequesterPhase[]> = {
  probing: ["requested", "joined"],
  requested: ["clearing", "probing"],
  clearing: ["copying", "probing"],
  copying: ["replaying", "verifying", "probing"],
  replaying: ["verifying", "probing"],
  verifying: ["probing"],
  joined: ["probing"],
};

export type ProviderPhase = "holding" | "streaming" | "draining" | "closed";
export const providerTransitions: Record<ProviderPhase, readonly ProviderPhase[]> = {
  holding: ["streaming", "closed"],
  streaming: ["draining", "closed"],
  draining: ["closed"],
  closed: [],
};

export type HoldPhase = "active" | "grace" | "released" | "expired";
export const holdTransitions: Record<HoldPhase, readonly HoldPhase[]> = {
  active: ["grace", "released", "expired"],
  grace: ["released", "expired"],
  released: [],
  expired: [],
};
