/**
 * The DER of each CERTIFICATE block of a PEM text (RFC 7468), so that any CA bundle is real input for a log. Text between
 * the blocks, other blocks, and either line ending are passed over; what lies inside a block must be base64.
 * Never looks into a certificate: an entry is opaque bytes.
 */
import { fromBase64 } from "../base/bytes.ts";
import { EngineError } from "../base/errors.ts";

const BEGIN = "-----BEGIN CERTIFICATE-----";
const END = "-----END CERTIFICATE-----";

/** In the order of the text, one at a time; throws LOG_ENCODING with the line of what is wrong. */
export function* certificatesOf(pem: string): Generator<Uint8Array> {
  let begun = 0; // line of the open block, counted from 1; 0 outside
  let base64: string[] = [];
  let number = 0;
  for (const raw of pem.split("\n")) {
    number++;
    const line = raw.trim();
    if (begun === 0) {
      if (line === BEGIN) [begun, base64] = [number, []];
    } else if (line === END) {
      yield decoded(base64, begun);
      begun = 0;
    } else {
      if (!/^[A-Za-z0-9+/]*={0,2}$/.test(line))
        throw new EngineError("LOG_ENCODING", `line ${number}: ${JSON.stringify(line.slice(0, 80))} in the certificate begun on line ${begun} is not base64`);
      base64.push(line);
    }
  }
  if (begun !== 0) throw new EngineError("LOG_ENCODING", `line ${begun}: a certificate begins here and does not end`);
}

function decoded(lines: readonly string[], begun: number): Uint8Array {
  const der = fromBase64(lines.join(""));
  if (der === null || der.length === 0) throw new EngineError("LOG_ENCODING", `line ${begun}: the certificate begun here is not base64 of anything`);
  return der;
}
