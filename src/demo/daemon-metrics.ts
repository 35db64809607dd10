/** What the demo reads of a coordinator's `/metrics`. */
export interface DaemonMetrics {
  /** Slots of the live workers of the named pools together. */
  readonly slotsUsed: number;
  readonly slotsTotal: number;
  /** Pools that have a live worker, with how many. */
  readonly workers: ReadonlyMap<string, number>;
  /** Deliveries, results and replies that are in the process's hands. */
  readonly inHand: number;
  /** CPU the process has used, in seconds. */
  readonly cpuSeconds: number;
}

const SAMPLE = /^([a-z_]+)(?:\{(.*)\})? (\S+)$/;
const IN_HAND = [
  'tollgate_jobs_waiting',
  'tollgate_jobs_in_flight',
  'tollgate_results_waiting',
  'tollgate_replies_pending',
];
const FETCH_MS_MAX = 5_000;

/** Reads what the coordinator at `httpUrl` shows. Rejects when it does not answer. */
export async function fetchMetrics(httpUrl: string, pools: readonly string[]): Promise<DaemonMetrics> {
  const response = await fetch(new URL('/metrics', httpUrl), { signal: AbortSignal.timeout(FETCH_MS_MAX) });
  return parseMetrics(await response.text(), pools);
}

/** Reads Prometheus' text format as far as it is needed here. Pure. */
export function parseMetrics(text: string, pools: readonly string[]): DaemonMetrics {
  const workers = new Map<string, number>();
  const slots = { used: 0, free: 0 };
  let inHand = 0;
  let cpuSeconds = 0;
  for (const line of text.split('\n')) {
    const [, name = '', labels = '', value = ''] = SAMPLE.exec(line) ?? [];
    const pool = /pool="([^"]*)"/.exec(labels)?.[1] ?? '';
    const state = /state="(used|free)"/.exec(labels)?.[1];
    if (name === 'tollgate_pool_workers') workers.set(pool, Number(value));
    else if (name === 'tollgate_slots' && pools.includes(pool) && (state === 'used' || state === 'free'))
      slots[state] += Number(value);
    else if (IN_HAND.includes(name)) inHand += Number(value);
    else if (name === 'process_cpu_seconds_total') cpuSeconds = Number(value);
  }
  return { slotsUsed: slots.used, slotsTotal: slots.used + slots.free, workers, inHand, cpuSeconds };
}
