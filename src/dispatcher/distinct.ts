/** Parts in which each id stands at most once, in order: one call to the ledger may not name a job twice. */
export function distinctParts<T>(items: readonly T[], idOf: (item: T) => string): T[][] {
  const parts: T[][] = [];
  const timesSeen = new Map<string, number>();
  for (const item of items) {
    const id = idOf(item);
    const times = timesSeen.get(id) ?? 0;
    timesSeen.set(id, times + 1);
    const part = parts[times] ?? [];
    part.push(item);
    parts[times] = part;
  }
  return parts;
}
