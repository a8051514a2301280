/**
 * Several cores in one process: an event goes to the part that it is for; tickets, request ids and timers carry the part's
 * number, so that what comes back finds its way. Used by the daemon and by the member; decides nothing else.
 */
import type { Effect, Event } from "../base/effects.ts";

/** The parts that an event is for, as each of them knows it. `ofRequest` says which part a request is for. */
export function routed<Request, Answer>(
  event: Event<Request, Answer>,
  count: number,
  ofRequest: (body: Request) => number,
): readonly (readonly [part: number, event: Event<Request, Answer>])[] {
  switch (event.kind) {
    case "request":
      return [[ofRequest(event.body), event]];
    case "stored":
    case "full":
      return [[event.ticket % count, { ...event, ticket: Math.floor(event.ticket / count) }]];
    case "message":
      return [[event.requestId % count, { ...event, requestId: Math.floor(event.requestId / count) }]];
    case "timer":
      return [[Number(event.timer.slice(0, 1)), { ...event, timer: event.timer.slice(2) }]];
    case "start":
    case "lost":
      return Array.from({ length: count }, (_, part) => [part, event] as const);
  }
}

/** An effect of a part, with its number. */
export function numbered<Send, Reply>(effect: Effect<Send, Reply>, part: number, count: number): Effect<Send, Reply> {
  switch (effect.kind) {
    case "write":
      return { ...effect, ticket: effect.ticket * count + part };
    case "send":
      return { ...effect, requestId: effect.requestId * count + part };
    case "arm":
    case "disarm":
      return { ...effect, timer: `${part}.${effect.timer}` };
    default:
      return effect;
  }
}
