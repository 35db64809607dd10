/** One credit in micro-credits, the integer unit of all money. */
export const MICRO_PER_CREDIT = 1_000_000n;

/** The ledger's own bound on every amount: what a JavaScript number holds exactly. */
const MICRO_MAX = BigInt(Number.MAX_SAFE_INTEGER);

const CREDITS = /^(\d{1,12})(?:\.(\d{1,6}))?$/;

/**
 * Credits as people write them (`12`, `12.5`, at most six decimals) in micro-credits, exactly; null for anything else: a sign,
 * an exponent, a comma, a seventh decimal, more than 2^53 - 1 micro-credits. No floating point is involved.
 */
export function creditsFromText(text: string): bigint | null {
  const match = CREDITS.exec(text);
  if (match === null) return null;
  const [, whole = '', decimals = ''] = match;
  const amountMicro = BigInt(whole) * MICRO_PER_CREDIT + BigInt(decimals.padEnd(6, '0'));
  return amountMicro <= MICRO_MAX ? amountMicro : null;
}

/** Micro-credits as credits, with all six decimals less trailing zeros, at least two: `12.50`. */
export function creditsText(amountMicro: bigint): string {
  const sign = amountMicro < 0n ? '-' : '';
  const absolute = amountMicro < 0n ? -amountMicro : amountMicro;
  const decimals = (absolute % MICRO_PER_CREDIT).toString().padStart(6, '0');
  return `${sign}${absolute / MICRO_PER_CREDIT}.${decimals.slice(0, 2)}${decimals.slice(2).replace(/0+$/, '')}`;
}
