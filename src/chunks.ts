/** `all` in pieces of `size`, in order, the last one perhaps smaller; none of nothing. `size` is at least 1. */
export function chunksOf<T>(all: readonly T[], size: number): T[][] {
  const chunks: T[][] = [];
  for (let from = 0; from < all.length; from += size) chunks.push(all.slice(from, from + size));
  return chunks;
}
