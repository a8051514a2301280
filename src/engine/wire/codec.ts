/**
 * Field codecs for wire messages: big-endian, length-prefixed, one encoding of each value. A decoder checks every
 * length against its cap and against what remains before it allocates, and refuses what it does not know
 * (FRAME_CORRUPT, and nothing else). An encoder's input is our own: a value out of its form is a broken invariant.
 */
import { piece, readU32be, readU64be, utf8, writeU32be, writeU64be } from "../base/bytes.ts";
import { EngineError } from "../base/errors.ts";
import { invariant } from "../base/invariant.ts";

/** A byte order mark is text like any other: dropping it would give one value two encodings. */
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** From so many bytes on a piece of its own costs less than a copy. */
const LENT_BYTES_MIN = 16_384;

/**
 * Grows by doubling; `bytes` are copied in once, and not again where the writer was told how many there will be. With `lent`,
 * long ones are not copied at all: what was written is then in several pieces.
 */
export class Writer {
  private parts: Uint8Array;
  private used = 0;
  private readonly lent: Uint8Array[] | null;
  constructor(bytesHint = 256, lent: Uint8Array[] | null = null) {
    this.parts = new Uint8Array(bytesHint);
    this.lent = lent;
  }
  private room(length: number): number {
    const at = this.used;
    this.used += length;
    if (this.used > this.parts.length) {
      const grown = new Uint8Array(Math.max(this.used, this.parts.length * 2));
      grown.set(at === this.parts.length ? this.parts : piece(this.parts, 0, at));
      this.parts = grown;
    }
    return at;
  }
  u8(value: number): void {
    invariant(Number.isInteger(value) && value >= 0 && value <= 0xff, "a u8 is written with a value that fits");
    const at = this.room(1);
    this.parts[at] = value;
  }
  u32(value: number): void {
    invariant(Number.isInteger(value) && value >= 0 && value <= 0xffff_ffff, "a u32 is written with a value that fits");
    const at = this.room(4);
    writeU32be(this.parts, at, value);
  }
  u53(value: number): void {
    invariant(Number.isSafeInteger(value) && value >= 0, "a u53 is written with a value that fits");
    const at = this.room(8);
    writeU64be(this.parts, at, value);
  }
  raw(bytes: Uint8Array): void {
    if (this.lent !== null && bytes.length >= LENT_BYTES_MIN) {
      this.lent.push(this.done(), bytes);
      this.parts = new Uint8Array(256);
      this.used = 0;
      return;
    }
    const at = this.room(bytes.length);
    this.parts.set(bytes, at);
  }
  /** What was written; the writer is not used again. */
  done(): Uint8Array {
    return piece(this.parts, 0, this.used);
  }
}

export class Reader {
  private readonly bytes: Uint8Array;
  private at = 0;
  /** Never hands out a `Buffer`, even where it was given one: a `Buffer`'s `slice` is no copy. */
  constructor(bytes: Uint8Array) {
    this.bytes = bytes.constructor === Uint8Array ? bytes : new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }
  /** Steps over `length` bytes and says where they start. */
  private skip(length: number, what: string): number {
    const at = this.at;
    const left = this.bytes.length - at;
    if (length > left) throw new EngineError("FRAME_CORRUPT", `${what}: ${length} bytes announced, ${left} left`);
    this.at = at + length;
    return at;
  }
  /** The next `length` bytes, to be read only: a view where they are many. */
  take(length: number, what: string): Uint8Array {
    const at = this.skip(length, what);
    return piece(this.bytes, at, at + length);
  }
  /** A copy of the next `length` bytes. */
  copy(length: number, what: string): Uint8Array {
    const at = this.skip(length, what);
    return this.bytes.slice(at, at + length);
  }
  u8(what: string): number {
    return this.bytes[this.skip(1, what)] as number;
  }
  u32(what: string): number {
    return readU32be(this.bytes, this.skip(4, what));
  }
  u53(what: string): number {
    const value = readU64be(this.bytes, this.skip(8, what));
    if (value === null) throw new EngineError("FRAME_CORRUPT", `${what}: a number above 2^53 - 1`);
    return value;
  }
  end(what: string): void {
    if (this.at !== this.bytes.length) throw new EngineError("FRAME_CORRUPT", `${what}: ${this.bytes.length - this.at} bytes too many`);
  }
}

export type Field<T> = { write(to: Writer, value: T): void; read(from: Reader, what: string): T };
/** Any field at all: what a table of fields may hold. */
export type AnyField = { write(to: Writer, value: never): void; read(from: Reader, what: string): unknown };
export type Infer<Fields extends Record<string, AnyField>> = { readonly [Name in keyof Fields]: ReturnType<Fields[Name]["read"]> };

export const u8: Field<number> = { write: (to, value) => to.u8(value), read: (from, what) => from.u8(what) };
export const u32: Field<number> = { write: (to, value) => to.u32(value), read: (from, what) => from.u32(what) };
export const u53: Field<number> = { write: (to, value) => to.u53(value), read: (from, what) => from.u53(what) };

export const flag: Field<boolean> = {
  write: (to, value) => to.u8(value ? 1 : 0),
  read: (from, what) => {
    const value = from.u8(what);
    if (value > 1) throw new EngineError("FRAME_CORRUPT", `${what}: flag is ${value}, want 0 or 1`);
    return value === 1;
  },
};

/** Exactly `length` bytes; read as a copy. */
export const fixed = (length: number): Field<Uint8Array> => ({
  write: (to, value) => {
    invariant(value.length === length, "a fixed field is given as many bytes as it has");
    to.raw(value);
  },
  read: (from, what) => from.copy(length, what),
});

/** Up to `bytesMax` bytes; read as a view of the frame where they are many. */
export const bytes = (bytesMax: number): Field<Uint8Array> => ({
  write: (to, value) => {
    invariant(value.length <= bytesMax, "a bytes or text field is given no more than its cap");
    to.u32(value.length);
    to.raw(value);
  },
  read: (from, what) => {
    const length = from.u32(what);
    if (length > bytesMax) throw new EngineError("FRAME_CORRUPT", `${what}: ${length} bytes, at most ${bytesMax}`);
    return from.take(length, what);
  },
});

export const text = (bytesMax: number): Field<string> => {
  const field = bytes(bytesMax);
  return {
    write: (to, value) => field.write(to, utf8(value)),
    read: (from, what) => {
      const raw = field.read(from, what);
      try {
        return decoder.decode(raw);
      } catch (cause) {
        throw new EngineError("FRAME_CORRUPT", `${what}: not UTF-8`, { cause });
      }
    },
  };
};

/** Hashes one after the other, as one array of 32·n bytes; read as a view of the frame where they are many. */
export const hashes = (countMax: number): Field<Uint8Array> => {
  const field = bytes(countMax * 32);
  return {
    write: (to, value) => {
      invariant(value.length % 32 === 0, "a list of hashes is given whole hashes");
      field.write(to, value);
    },
    read: (from, what) => {
      const raw = field.read(from, what);
      if (raw.length % 32 !== 0) throw new EngineError("FRAME_CORRUPT", `${what}: ${raw.length} bytes are no list of hashes`);
      return raw;
    },
  };
};

export const list = <T>(item: Field<T>, countMax: number): Field<readonly T[]> => ({
  write: (to, value) => {
    invariant(value.length <= countMax, "a list is given no more items than its cap");
    to.u32(value.length);
    for (const each of value) item.write(to, each);
  },
  read: (from, what) => {
    const count = from.u32(what);
    if (count > countMax) throw new EngineError("FRAME_CORRUPT", `${what}: ${count} items, at most ${countMax}`);
    const items: T[] = [];
    for (let i = 0; i < count; i++) items.push(item.read(from, what));
    return items;
  },
});

export const nullable = <T>(item: Field<T>): Field<T | null> => ({
  write: (to, value) => {
    flag.write(to, value !== null);
    if (value !== null) item.write(to, value);
  },
  read: (from, what) => (flag.read(from, what) ? item.read(from, what) : null),
});

export const struct = <Fields extends Record<string, AnyField>>(fields: Fields): Field<Infer<Fields>> => {
  const named = Object.entries(fields as Record<string, Field<unknown>>);
  return {
    write: (to, value) => {
      for (const [name, field] of named) field.write(to, (value as Record<string, unknown>)[name]);
    },
    read: (from, what) => {
      const value: Record<string, unknown> = {};
      for (const [name, field] of named) value[name] = field.read(from, `${what}.${name}`);
      return value as Infer<Fields>;
    },
  };
};

/** A closed set of messages, each with a number of its own on the wire. */
export function messages<Table extends Record<string, readonly [tag: number, fields: Record<string, AnyField>]>>(table: Table) {
  type Message = { [Kind in keyof Table & string]: { readonly kind: Kind } & Infer<Table[Kind][1]> }[keyof Table & string];
  const byTag = new Map<number, { kind: string; codec: Field<unknown> }>();
  const byKind = new Map<string, { tag: number; codec: Field<unknown> }>();
  for (const kind in table) {
    const [tag, fields] = table[kind] as Table[typeof kind];
    const codec = struct(fields) as Field<unknown>;
    invariant(!byTag.has(tag), `the tag ${tag} is one message's`);
    byTag.set(tag, { kind, codec });
    byKind.set(kind, { tag, codec });
  }
  const write = (message: Message, to: Writer): Writer => {
    const { tag, codec } = byKind.get(message.kind) as { tag: number; codec: Field<unknown> };
    to.u8(tag);
    codec.write(to, message);
    return to;
  };
  return {
    encode(message: Message): Uint8Array {
      return write(message, new Writer(roomFor(message, Number.POSITIVE_INFINITY))).done();
    },
    /** The same bytes in pieces. Long fields are lent, not copied: nobody changes them until the pieces were used. */
    encodePieces(message: Message): Uint8Array[] {
      const pieces: Uint8Array[] = [];
      pieces.push(write(message, new Writer(roomFor(message, LENT_BYTES_MIN), pieces)).done());
      return pieces;
    },
    /** Throws FRAME_CORRUPT; large byte fields are views of `raw`. */
    decode(raw: Uint8Array): Message {
      const from = new Reader(raw);
      const tag = from.u8("message");
      const found = byTag.get(tag);
      if (found === undefined) throw new EngineError("FRAME_CORRUPT", `message tag ${tag} is unknown`);
      const fields = found.codec.read(from, found.kind) as object;
      from.end(found.kind);
      return { kind: found.kind, ...fields } as Message;
    },
    kinds: [...byKind.keys()] as (keyof Table & string)[],
  };
}

/** About what a message takes: its fields of bytes below a length, and something for the others. A megabyte is then allocated once. */
function roomFor(message: Readonly<Record<string, unknown>>, bytesBelow: number): number {
  let room = 256;
  for (const name in message) {
    const value = message[name];
    if (value instanceof Uint8Array) room += value.length < bytesBelow ? value.length : 0;
    else if (Array.isArray(value)) room += value.length * 8;
  }
  return room;
}

/** The message union of a table made by `messages`. */
export type MessageOf<T extends { decode(raw: Uint8Array): unknown }> = ReturnType<T["decode"]>;
