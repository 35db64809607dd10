/** Who Tollgate is compared with. */
export const PEERS = ['bullmq', 'pg-boss', 'graphile-worker'] as const;
export type PeerName = (typeof PEERS)[number];

/**
 * What the handler of a peer does with a job. `same steps`: reserve a slot, commit the credit lock, hand over to the node's queue,
 * write the trace. `lock only`: commit the credit lock. `no-op`: nothing.
 */
export const VARIANTS = ['same steps', 'lock only', 'no-op'] as const;
export type Variant = (typeof VARIANTS)[number];

/** How a peer takes and completes jobs; what a peer does not have it leaves out. */
export interface Setting {
  /** Handlers under way at a time, each with one job or with one batch. */
  readonly concurrency: number;
  /** pg-boss: jobs of one batch. graphile-worker: jobs that are fetched ahead. */
  readonly fetched: number;
  /** The locks of a batch share one transaction, which takes a batch in the handler's hands. */
  readonly areLocksBatched: boolean;
}

/** One peer at one task. */
export interface Contest {
  readonly peer: PeerName;
  readonly variant: Variant;
  readonly setting: Setting;
}

function setting(concurrency: number, fetched = 1): Setting {
  return { concurrency, fetched, areLocksBatched: false };
}

/** Settings that were tried, the one that is kept first; `bench/peers/README.md` says where they come from and how they did. */
export const SETTINGS: Readonly<Record<PeerName, Readonly<Record<Variant, readonly Setting[]>>>> = {
  bullmq: {
    'same steps': [setting(300), setting(100), setting(32)],
    'lock only': [setting(100), setting(32), setting(300)],
    'no-op': [setting(100), setting(32), setting(300)],
  },
  'pg-boss': {
    'same steps': [setting(2, 250), setting(8, 100), setting(4, 50)],
    'lock only': [setting(2, 250), setting(8, 100), setting(4, 50)],
    'no-op': [setting(2, 500), setting(8, 100), setting(4, 50)],
  },
  'graphile-worker': {
    'same steps': [setting(100, 500), setting(24, 500), setting(24, 25)],
    'lock only': [setting(24, 25), setting(24, 500), setting(100, 500)],
    'no-op': [setting(100, 500), setting(24, 500), setting(24, 25)],
  },
};

/** Settings of a handler that commits the locks of its batch together, the one that is kept first. */
export const BATCHED_LOCKS: readonly Setting[] = [
  { concurrency: 2, fetched: 500, areLocksBatched: true },
  { concurrency: 2, fetched: 250, areLocksBatched: true },
  { concurrency: 8, fetched: 100, areLocksBatched: true },
];

/** Of the three only pg-boss hands a handler more than one job. */
const BATCHED_PEER: PeerName = 'pg-boss';

/** All that runs in one pair, or, with `isTuning`, every setting that was tried. */
export function contests(isTuning: boolean): Contest[] {
  const kept = (settings: readonly Setting[]) => (isTuning ? settings : settings.slice(0, 1));
  return VARIANTS.flatMap((variant) => [
    ...PEERS.flatMap((peer) => kept(SETTINGS[peer][variant]).map((one) => ({ peer, variant, setting: one }))),
    ...(variant === 'no-op' ? [] : kept(BATCHED_LOCKS)).map((one) => ({
      peer: BATCHED_PEER,
      variant,
      setting: one,
    })),
  ]);
}
