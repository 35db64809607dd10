/** Larger numbers are written as this: no token ends and no time lies beyond it, and it keeps five bytes the longest. */
const VALUE_MAX = 0x7fff_ffff;

/**
 * Packs a list of whole numbers ≥ 0 into few bytes: each as its difference to the one before, zigzag (0, −1, 1, −2 … become
 * 0, 1, 2, 3 …), seven bits to a byte, lowest first, the top bit set while more follow. A rising list of small steps, such
 * as the ends of tokens, takes one byte each. Source: Protocol Buffers encoding (varint, sint32).
 */
export function packIntegers(values: readonly number[]): Buffer {
  const bytes = Buffer.allocUnsafe(values.length * 5);
  let length = 0;
  let previous = 0;
  for (const given of values) {
    const value = Math.min(given, VALUE_MAX);
    const step = value - previous;
    previous = value;
    let rest = ((step << 1) ^ (step >> 31)) >>> 0;
    while (rest > 0x7f) {
      bytes[length++] = (rest & 0x7f) | 0x80;
      rest >>>= 7;
    }
    bytes[length++] = rest;
  }
  return bytes.subarray(0, length);
}

/** The list that `packIntegers` packed. */
export function unpackIntegers(bytes: Uint8Array): number[] {
  const values: number[] = [];
  let previous = 0;
  let rest = 0;
  let shift = 0;
  for (const byte of bytes) {
    rest |= (byte & 0x7f) << shift;
    shift += 7;
    if (byte < 0x80) {
      previous += (rest >>> 1) ^ -(rest & 1);
      values.push(previous);
      rest = 0;
      shift = 0;
    }
  }
  return values;
}
