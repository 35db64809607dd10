/** Codes by which drivers tell that a connection broke. 57P0x: PostgreSQL ends, ended or begins. */
const LOST = new Set(['ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'ETIMEDOUT', '57P01', '57P02', '57P03']);
const LOST_NAMES = /^Mongo(Network|ServerSelection)/;

/** True of an error, or of what caused it, that a broken connection makes: the other end is to be looked at, not our code. */
export function isLost(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const code = 'code' in error ? String(error.code) : '';
  return LOST.has(code) || LOST_NAMES.test(error.name) || isLost(error.cause);
}
