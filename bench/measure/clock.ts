/**
 * Milliseconds on the kernel's monotonic clock, with fractions. Unlike `performance.now()` it has the same origin in every
 * process of the machine, so a time taken in the load generator may be subtracted from one taken in the fleet.
 */
export function machineMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

/** Rejects when `promise` takes longer than `ms`: no run may hang. */
export async function within<T>(promise: Promise<T>, ms: number, what: string): Promise<T> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(new Error(`waited ${ms} ms for ${what}`)), ms);
  try {
    return await Promise.race([promise, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}
