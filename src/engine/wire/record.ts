/**
 * A stored row's codec made of wire fields, behind one format byte: what rests in a database is decoded as strictly as
 * what comes off the wire. A row that does not decode is STORE_CORRUPT.
 */
import { EngineError } from "../base/errors.ts";
import { type AnyField, type Infer, Reader, struct, Writer } from "./codec.ts";

export type RecordCodec<T> = { encode(value: T): Uint8Array; decode(raw: Uint8Array): T };

export function record<Fields extends { readonly [name: string]: AnyField }>(what: string, fields: Fields): RecordCodec<Infer<Fields>> {
  const codec = struct(fields);
  return {
    encode(value) {
      const to = new Writer();
      to.u8(1);
      codec.write(to, value);
      return to.done().slice();
    },
    decode(raw) {
      try {
        const from = new Reader(raw);
        const format = from.u8(what);
        if (format !== 1) throw new EngineError("STORE_CORRUPT", `${what}: format ${format}, this build reads 1`);
        const value = codec.read(from, what);
        from.end(what);
        return value;
      } catch (cause) {
        if (cause instanceof EngineError && cause.code === "FRAME_CORRUPT") throw new EngineError("STORE_CORRUPT", cause.message, { cause });
        throw cause;
      }
    },
  };
}
