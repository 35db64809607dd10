import { crc32 } from 'node:zlib';

/**
 * What a cell's keys begin with. The braces are the hash tag: Redis Cluster puts all keys with the same one in one slot, so a
 * script may touch them together. The rest of each key is named in one place, `lua/shared.lua`.
 */
export function cellBase(prefix: string, cell: number): string {
  return `{${prefix}:${cell}}`;
}

/** The cell of a node: where its worker, its leases and its place in the pools are kept. */
export function cellOf(node: string, cells: number): number {
  return crc32(node) % cells;
}

/**
 * The channel of wake-ups; each message is the name of a pool. It carries the prefix because pub/sub, unlike keys, knows no
 * database numbers.
 */
export function wakeChannel(prefix: string): string {
  return `${prefix}:wake`;
}
