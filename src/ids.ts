import { randomBytes } from 'node:crypto';
import { systemClock, type TimeSource } from './clock.ts';

const UUID_V7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

/** What a node id, a publisher name or an account name may look like: it becomes part of queue and user names. */
export const NAME_PATTERN = '^[a-z0-9][a-z0-9_-]{0,61}$';

/** What a model name may look like: it becomes part of a queue name, `jobs.<model>.<priority>`. */
export const MODEL_PATTERN = '^[a-z0-9][a-z0-9._-]{0,63}$';

/** Lower-case UUIDv7 in the usual text form. */
export const UUID_V7_PATTERN = UUID_V7.source;

/** Makes a UUIDv7: 48 bits of milliseconds, then 74 random bits. Source: RFC 9562 §5.7. */
export function newUuidV7(clock: TimeSource = systemClock): string {
  return uuidV7Of(clock.nowMs(), randomBytes(16));
}

/** The UUIDv7 of a time and 16 bytes, of which 74 bits are used. Changes `bytes`. */
export function uuidV7Of(timeMs: number, bytes: Buffer): string {
  bytes.writeUIntBE(timeMs, 0, 6);
  bytes[6] = 0x70 | ((bytes[6] ?? 0) & 0x0f);
  bytes[8] = 0x80 | ((bytes[8] ?? 0) & 0x3f);
  const hex = bytes.toString('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

/** True for a lower-case UUIDv7 and nothing else. */
export function isUuidV7(text: string): boolean {
  return UUID_V7.test(text);
}

/** The milliseconds since 1970 inside a UUIDv7; the caller has checked its form. */
export function uuidV7TimeMs(id: string): number {
  return Number.parseInt(id.slice(0, 8) + id.slice(9, 13), 16);
}

/** The 16 bytes of a UUID in text form. */
export function uuidBytes(id: string): Buffer {
  // Cut at the known places: a third less than searching for the hyphens.
  const hex = id.slice(0, 8) + id.slice(9, 13) + id.slice(14, 18) + id.slice(19, 23) + id.slice(24);
  return Buffer.from(hex, 'hex');
}
