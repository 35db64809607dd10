import { type Action, POINTS } from './failpoints.ts';
import { LINKS, type LinkName } from './links.ts';
import { Random } from './random.ts';

/** Servers by the names of the stack. */
export const SERVERS = ['postgres', 'redis', 'rabbitmq', 'mongodb'] as const;
export type Server = (typeof SERVERS)[number];

/** How a link is damaged. */
export type LinkDamage =
  | { readonly kind: 'cut' }
  | { readonly kind: 'black_hole' }
  | { readonly kind: 'hold_answers' }
  | { readonly kind: 'latency'; readonly ms: number; readonly jitterMs: number }
  | { readonly kind: 'slow'; readonly bytesPerS: number }
  | { readonly kind: 'cut_after'; readonly bytes: number };

/** A fault of coordinators. Durations in milliseconds, here and below. */
export type CoordinatorFault =
  | { readonly kind: 'kill'; readonly coordinator: number }
  | { readonly kind: 'kill_at'; readonly coordinator: number; readonly point: string; readonly hits: number }
  | {
      readonly kind: 'fail_at';
      readonly coordinator: number;
      readonly point: string;
      readonly action: Action;
      readonly hits: number;
    }
  | { readonly kind: 'drain'; readonly coordinator: number }
  /** All coordinators are drained and started again, one after the other. */
  | { readonly kind: 'roll' }
  | { readonly kind: 'pause'; readonly coordinator: number; readonly ms: number }
  | { readonly kind: 'block'; readonly coordinator: number; readonly ms: number }
  | { readonly kind: 'clock'; readonly coordinator: number; readonly offsetMs: number; readonly ms: number };

/** A fault of a server, done to the server itself. */
export type ServerFault =
  | {
      readonly kind: 'restart';
      readonly server: Server;
      readonly how: 'fast' | 'kill';
      readonly awayMs: number;
    }
  | { readonly kind: 'freeze'; readonly server: Server; readonly ms: number }
  /** `pg_terminate_backend` of everybody. */
  | { readonly kind: 'terminate' }
  /** No login of ours may open a connection, and those that are open end. */
  | { readonly kind: 'no_connections'; readonly ms: number }
  /** FLUSHALL. */
  | { readonly kind: 'flush' }
  /** CLIENT PAUSE: Redis reads commands and answers none. */
  | { readonly kind: 'stall'; readonly ms: number }
  /** Redis is at its memory limit: it refuses writes. */
  | { readonly kind: 'out_of_memory'; readonly ms: number }
  /** The management API closes all AMQP connections. */
  | { readonly kind: 'close' }
  /** A memory alarm: the broker reads no publisher. */
  | { readonly kind: 'alarm'; readonly ms: number }
  /** MongoDB stands still, and the queue that keeps traces meanwhile takes nothing. */
  | { readonly kind: 'spool_full'; readonly ms: number };

/** One fault. */
export type Fault =
  | CoordinatorFault
  | ServerFault
  | { readonly kind: 'link'; readonly link: LinkName; readonly damage: LinkDamage; readonly ms: number }
  | { readonly kind: 'fleet_kill'; readonly fleet: number }
  | { readonly kind: 'fleet_pause'; readonly fleet: number; readonly ms: number };

/** When a fault comes: so long after the one before has ended. */
export interface Step {
  readonly afterMs: number;
  readonly fault: Fault;
}

/** What a schedule is made for. */
export interface Scale {
  readonly coordinators: number;
  readonly fleets: number;
  /** Mean pause between two faults, in milliseconds. */
  readonly everyMs: number;
  /** The first coordinator is never ended. */
  readonly isFirstSpared: boolean;
}

/** What the faults of one schedule strike: all there is; all but the coordinators; or one coordinator, by its index. */
export type Target = 'everything' | 'surroundings' | number;

/** What a fault is made for: `only` is the one coordinator that may be struck; null: each. */
interface Reach extends Scale {
  readonly only: number | null;
}

interface Maker {
  /** How often it comes: all of them add up to about a hundred. */
  readonly weight: number;
  readonly strikes: 'one coordinator' | 'all coordinators' | 'surroundings';
  readonly make: (random: Random, reach: Reach) => Fault;
}

const MINUTE_MS = 60_000;
/** A failpoint goes off at the latest when so many calls have come by. */
const HITS_MAX = 4;
/** Forward and back, by what a bad time server does and by what a bad battery does. */
const CLOCK_STEPS_MS = [5_000, 5 * MINUTE_MS, 24 * 60 * MINUTE_MS].flatMap((ms) => [ms, -ms]);

/** Every kind of fault. */
const MAKERS: readonly Maker[] = [
  {
    weight: 24,
    strikes: 'one coordinator',
    make: (random, reach) => ({ kind: 'kill', coordinator: mortal(random, reach) }),
  },
  { weight: 24, strikes: 'one coordinator', make: killAt },
  { weight: 14, strikes: 'one coordinator', make: failAt },
  {
    weight: 3,
    strikes: 'one coordinator',
    make: (random, reach) => ({ kind: 'drain', coordinator: mortal(random, reach) }),
  },
  {
    weight: 1,
    strikes: 'all coordinators',
    make: (random, reach) =>
      reach.isFirstSpared ? { kind: 'drain', coordinator: mortal(random, reach) } : { kind: 'roll' },
  },
  {
    weight: 3,
    strikes: 'one coordinator',
    make: (random, reach) => ({
      kind: 'pause',
      coordinator: one(random, reach),
      ms: random.between(1_000, 14_000),
    }),
  },
  {
    weight: 2,
    strikes: 'one coordinator',
    make: (random, reach) => ({
      kind: 'block',
      coordinator: one(random, reach),
      ms: random.between(1_000, 6_000),
    }),
  },
  {
    weight: 2,
    strikes: 'one coordinator',
    make: (random, reach) => ({
      kind: 'clock',
      coordinator: one(random, reach),
      offsetMs: random.pick(CLOCK_STEPS_MS),
      ms: random.between(1_000, 5_000),
    }),
  },
  {
    weight: 5,
    strikes: 'surroundings',
    make: (random) => ({
      kind: 'restart',
      server: random.pick(SERVERS),
      how: random.pick(['fast', 'kill'] as const),
      awayMs: random.between(0, 4_000),
    }),
  },
  {
    weight: 2,
    strikes: 'surroundings',
    make: (random) => ({ kind: 'freeze', server: random.pick(SERVERS), ms: random.between(500, 5_000) }),
  },
  { weight: 3, strikes: 'surroundings', make: () => ({ kind: 'terminate' }) },
  {
    weight: 1,
    strikes: 'surroundings',
    make: (random) => ({ kind: 'no_connections', ms: random.between(500, 4_000) }),
  },
  { weight: 3, strikes: 'surroundings', make: () => ({ kind: 'flush' }) },
  {
    weight: 1,
    strikes: 'surroundings',
    make: (random) => ({ kind: 'stall', ms: random.between(500, 5_000) }),
  },
  {
    weight: 1,
    strikes: 'surroundings',
    make: (random) => ({ kind: 'out_of_memory', ms: random.between(500, 4_000) }),
  },
  { weight: 3, strikes: 'surroundings', make: () => ({ kind: 'close' }) },
  {
    weight: 1,
    strikes: 'surroundings',
    make: (random) => ({ kind: 'alarm', ms: random.between(1_000, 5_000) }),
  },
  {
    weight: 1,
    strikes: 'surroundings',
    make: (random) => ({ kind: 'spool_full', ms: random.between(1_000, 6_000) }),
  },
  { weight: 8, strikes: 'surroundings', make: linkFault },
  {
    weight: 1,
    strikes: 'surroundings',
    make: (random, { fleets }) => ({ kind: 'fleet_kill', fleet: random.between(0, fleets - 1) }),
  },
  {
    weight: 1,
    strikes: 'surroundings',
    make: (random, { fleets }) => ({
      kind: 'fleet_pause',
      fleet: random.between(0, fleets - 1),
      ms: random.between(1_000, 9_000),
    }),
  },
];

/**
 * Beside coordinators with faults of their own, those of the surroundings come so much more seldom: each strikes all of them, and
 * while a server is away none comes up that was killed.
 */
const SURROUNDINGS_EVERY = 10;

/** The faults of a seed and a target, in their order, without end. The same seed, scale and target give the same ones. */
export function* scheduleOf(
  seed: number,
  scale: Scale,
  target: Target = 'everything',
): Generator<Step, never> {
  const random = new Random(seed ^ saltOf(target));
  const makers = MAKERS.filter(({ strikes }) => target === 'everything' || strikes === strikesOf(target));
  const reach = { ...scale, only: typeof target === 'number' ? target : null };
  const everyMs = scale.everyMs * (target === 'surroundings' ? SURROUNDINGS_EVERY : 1);
  for (;;) {
    const afterMs = random.between(Math.round(everyMs * 0.2), Math.round(everyMs * 1.8));
    yield { afterMs, fault: random.weighted(makers).make(random, reach) };
  }
}

function strikesOf(target: 'surroundings' | number): Maker['strikes'] {
  return target === 'surroundings' ? target : 'one coordinator';
}

/** Targets that are struck at the same time have schedules of their own. */
function saltOf(target: Target): number {
  if (target === 'everything') return 0;
  return target === 'surroundings' ? 0x5e_2b_1d : 0x9e_37 * (target + 1);
}

/** One line about a fault: its kind and what tells it from others of the kind. */
export function describeFault(fault: Fault): string {
  const { kind, ...rest } = fault;
  const details = Object.entries(rest).map(([name, value]) =>
    typeof value === 'object' ? `${name}=${Object.values(value).join('/')}` : `${name}=${value}`,
  );
  return [kind, ...details].join(' ');
}

function one(random: Random, { coordinators, only }: Reach): number {
  return only ?? random.between(0, coordinators - 1);
}

/** One that may be ended. */
function mortal(random: Random, { coordinators, isFirstSpared, only }: Reach): number {
  return only ?? random.between(isFirstSpared ? 1 : 0, coordinators - 1);
}

function killAt(random: Random, reach: Reach): Fault {
  const { name, isRare } = random.pick(POINTS);
  const coordinator = mortal(random, reach);
  return { kind: 'kill_at', coordinator, point: name, hits: random.between(1, isRare ? 1 : HITS_MAX) };
}

function failAt(random: Random, reach: Reach): Fault {
  const { name, actions, isRare } = random.pick(POINTS.filter((point) => point.actions.length > 1));
  const action = random.pick(actions.filter((candidate) => candidate !== 'kill'));
  return {
    kind: 'fail_at',
    coordinator: one(random, reach),
    point: name,
    action,
    hits: random.between(1, isRare ? 1 : HITS_MAX),
  };
}

function linkFault(random: Random): Fault {
  const ms = random.between(500, 6_000);
  const damage = random.pick<LinkDamage>([
    { kind: 'cut' },
    { kind: 'black_hole' },
    { kind: 'hold_answers' },
    { kind: 'latency', ms: 200, jitterMs: 100 },
    { kind: 'slow', bytesPerS: 20_000 },
    { kind: 'cut_after', bytes: random.between(100, 50_000) },
  ]);
  return { kind: 'link', link: random.pick(LINKS), damage, ms };
}
