// MessagePack as MCP 1.0 uses it: nil, bool, int, float, str, array, map with texts as keys. No bin, no ext.
// Whole numbers beyond 2^53 are read as BigInt; they are written from either.

const DEPTH_MAX = 64;
const VALUES_MAX = 100_000;
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

export function encodeMessagePack(value) {
  const parts = [];
  write(value, parts, 0);
  return Buffer.concat(parts);
}

/** A first byte and a number behind it, big-endian. */
function head(first, bytes, number) {
  const part = Buffer.alloc(1 + bytes);
  part[0] = first;
  if (bytes === 8) part.writeBigUInt64BE(BigInt.asUintN(64, BigInt(number)), 1);
  else if (bytes) part.writeUIntBE(number, 1, bytes);
  return part;
}

/** The shortest form of a length: `small` with the number in it up to `most`, else one of the rest by size. */
function sized(length, small, most, firsts) {
  if (length <= most) return head(small + length, 0, 0);
  const at = length < 0x100 && firsts[0] ? 0 : length < 0x10000 ? 1 : 2;
  return head(firsts[at], [1, 2, 4][at], length);
}

function whole(number) {
  if (number >= 0) {
    if (number < 0x80) return head(Number(number), 0, 0);
    if (number < 0x100) return head(0xcc, 1, Number(number));
    if (number < 0x10000) return head(0xcd, 2, Number(number));
    if (number < 0x1_0000_0000) return head(0xce, 4, Number(number));
    if (number <= 0xffff_ffff_ffff_ffffn) return head(0xcf, 8, number);
  } else {
    if (number >= -0x20) return head(Number(number) & 0xff, 0, 0);
    if (number >= -0x80) return head(0xd0, 1, Number(number) & 0xff);
    if (number >= -0x8000) return head(0xd1, 2, Number(number) & 0xffff);
    if (number >= -0x8000_0000) return head(0xd2, 4, Number(number) >>> 0);
    if (number >= -0x8000_0000_0000_0000n) return head(0xd3, 8, number);
  }
  throw new RangeError("a whole number is longer than 64 bits");
}

function floating(number) {
  if (!Number.isFinite(number)) throw new RangeError("a number is not finite");
  const part = Buffer.alloc(9, 0xcb);
  part.writeDoubleBE(number, 1);
  return part;
}

/** `depth` counts the containers around a value. */
function write(value, parts, depth) {
  const container = typeof value === "object" && value !== null;
  if (container && depth === DEPTH_MAX) throw new RangeError("a body is deeper than 64");
  if (value === null || value === undefined) parts.push(head(0xc0, 0, 0));
  else if (typeof value === "boolean") parts.push(head(value ? 0xc3 : 0xc2, 0, 0));
  else if (typeof value === "bigint" || (Number.isInteger(value) && !Object.is(value, -0) && Math.abs(value) < 2 ** 63))
    parts.push(whole(value));
  else if (typeof value === "number") parts.push(floating(value));
  else if (typeof value === "string") {
    if (/\p{Surrogate}/u.test(value)) throw new TypeError("a text holds half of a character");
    const bytes = Buffer.from(value, "utf-8");
    parts.push(sized(bytes.length, 0xa0, 31, [0xd9, 0xda, 0xdb]), bytes);
  } else if (Array.isArray(value)) {
    parts.push(sized(value.length, 0x90, 15, [0, 0xdc, 0xdd]));
    for (const one of value) write(one, parts, depth + 1);
  } else if (container) {
    const fields = Object.entries(value).filter(([, one]) => one !== undefined); // as JSON.stringify does
    parts.push(sized(fields.length, 0x80, 15, [0, 0xde, 0xdf]));
    for (const [name, one] of fields) {
      write(name, parts, depth + 1);
      write(one, parts, depth + 1);
    }
  } else throw new TypeError(`a ${typeof value} cannot be written`);
}

export function decodeMessagePack(bytes) {
  const reader = new Reader(bytes);
  const value = reader.value(0);
  if (reader.at !== bytes.length) throw new RangeError("bytes behind the body");
  return value;
}

class Reader {
  at = 0;
  #values = 0;

  constructor(bytes) {
    this.bytes = bytes;
  }

  #take(count) {
    if (this.at + count > this.bytes.length) throw new RangeError("the body is cut short");
    return this.bytes.subarray(this.at, (this.at += count));
  }

  #number(bytes, signed) {
    const part = this.#take(bytes);
    if (bytes < 8) return signed ? part.readIntBE(0, bytes) : part.readUIntBE(0, bytes);
    const long = signed ? part.readBigInt64BE() : part.readBigUInt64BE();
    return Number.isSafeInteger(Number(long)) ? Number(long) : long;
  }

  /** The next value; `depth` counts the containers around it. */
  value(depth) {
    const first = this.#take(1)[0];
    if (first < 0x80) return first;
    if (first >= 0xe0) return first - 0x100;
    if (first < 0x90) return this.#map(first & 0x0f, depth);
    if (first < 0xa0) return this.#array(first & 0x0f, depth);
    if (first < 0xc0) return this.#text(first & 0x1f);
    switch (first) {
      case 0xc0: return null;
      case 0xc2: return false;
      case 0xc3: return true;
      case 0xca: return this.#take(4).readFloatBE();
      case 0xcb: return this.#take(8).readDoubleBE();
      case 0xcc: case 0xcd: case 0xce: case 0xcf: return this.#number(1 << (first - 0xcc), false);
      case 0xd0: case 0xd1: case 0xd2: case 0xd3: return this.#number(1 << (first - 0xd0), true);
      case 0xd9: case 0xda: case 0xdb: return this.#text(this.#number(1 << (first - 0xd9), false));
      case 0xdc: case 0xdd: return this.#array(this.#number(2 << (first - 0xdc), false), depth);
      case 0xde: case 0xdf: return this.#map(this.#number(2 << (first - 0xde), false), depth);
      default: throw new TypeError(`type 0x${first.toString(16)} has no place in a body`);
    }
  }

  #text(length) {
    return utf8.decode(this.#take(length));
  }

  /** Before a container is read: the length that it claims is held to what a body may have. */
  #enter(length, depth) {
    this.#values += length;
    if (this.#values > VALUES_MAX) throw new RangeError("the body has more than 100,000 values");
    if (depth === DEPTH_MAX) throw new RangeError("the body is deeper than 64");
  }

  #array(length, depth) {
    this.#enter(length, depth);
    const values = [];
    while (values.length < length) values.push(this.value(depth + 1));
    return values;
  }

  #map(length, depth) {
    this.#enter(length, depth);
    const fields = [];
    while (fields.length < length) {
      const name = this.value(depth + 1);
      if (typeof name !== "string") throw new TypeError("a key is not a text");
      fields.push([name, this.value(depth + 1)]);
    }
    return Object.fromEntries(fields); // defines its fields, so that the key __proto__ is one like the others
  }
}
