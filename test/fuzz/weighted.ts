import type { Random } from './random.ts';

/** Picks a name of the table as often as its weight says. */
export function weighted(
  table: Readonly<Record<string, { readonly weight: number }>>,
): (random: Random) => string {
  const entries = Object.entries(table);
  const total = entries.reduce((sum, [, { weight }]) => sum + weight, 0);
  return (random) => {
    let left = random.next() * total;
    for (const [name, { weight }] of entries) {
      left -= weight;
      if (left < 0) return name;
    }
    return entries.at(-1)?.[0] ?? '';
  };
}
