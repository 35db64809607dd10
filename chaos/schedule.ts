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

/** One fault. Durations in milliseconds. */
export type Fault =
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
  | { readonly kind: 'clock'; readonly coordinator: number; readonly offsetMs: number; readonly ms: number }
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
  | { readonly kind: 'spool_full'; readonly ms: number }
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

const MINUTE_MS = 60_000;
/** Forward and back, by what a bad time server does and by what a bad battery does. */
const CLOCK_STEPS_MS = [5_000, 5 * MINUTE_MS, 24 * 60 * MINUTE_MS].flatMap((ms) => [ms, -ms]);

/** Every kind of fault, how often it comes (the weights add up to about a hundred), and how one is made. */
const MAKERS: readonly { readonly weight: number; readonly make: (random: Random, scale: Scale) => Fault }[] =
  [
    { weight: 24, make: (random, scale) => ({ kind: 'kill', coordinator: mortal(random, scale) }) },
    { weight: 24, make: killAt },
    { weight: 14, make: failAt },
    { weight: 3, make: (random, scale) => ({ kind: 'drain', coordinator: mortal(random, scale) }) },
    {
      weight: 1,
      make: (random, scale) =>
        scale.isFirstSpared ? { kind: 'drain', coordinator: mortal(random, scale) } : { kind: 'roll' },
    },
    {
      weight: 3,
      make: (random, scale) => ({
        kind: 'pause',
        coordinator: one(random, scale),
        ms: random.between(1_000, 14_000),
      }),
    },
    {
      weight: 2,
      make: (random, scale) => ({
        kind: 'block',
        coordinator: one(random, scale),
        ms: random.between(1_000, 6_000),
      }),
    },
    {
      weight: 2,
      make: (random, scale) => ({
        kind: 'clock',
        coordinator: one(random, scale),
        offsetMs: random.pick(CLOCK_STEPS_MS),
        ms: random.between(1_000, 5_000),
      }),
    },
    {
      weight: 5,
      make: (random) => ({
        kind: 'restart',
        server: random.pick(SERVERS),
        how: random.pick(['fast', 'kill'] as const),
        awayMs: random.between(0, 4_000),
      }),
    },
    {
      weight: 2,
      make: (random) => ({ kind: 'freeze', server: random.pick(SERVERS), ms: random.between(500, 5_000) }),
    },
    { weight: 3, make: () => ({ kind: 'terminate' }) },
    { weight: 1, make: (random) => ({ kind: 'no_connections', ms: random.between(500, 4_000) }) },
    { weight: 3, make: () => ({ kind: 'flush' }) },
    { weight: 1, make: (random) => ({ kind: 'stall', ms: random.between(500, 5_000) }) },
    { weight: 1, make: (random) => ({ kind: 'out_of_memory', ms: random.between(500, 4_000) }) },
    { weight: 3, make: () => ({ kind: 'close' }) },
    { weight: 1, make: (random) => ({ kind: 'alarm', ms: random.between(1_000, 5_000) }) },
    { weight: 1, make: (random) => ({ kind: 'spool_full', ms: random.between(1_000, 6_000) }) },
    { weight: 8, make: linkFault },
    {
      weight: 1,
      make: (random, { fleets }) => ({ kind: 'fleet_kill', fleet: random.between(0, fleets - 1) }),
    },
    {
      weight: 1,
      make: (random, { fleets }) => ({
        kind: 'fleet_pause',
        fleet: random.between(0, fleets - 1),
        ms: random.between(1_000, 9_000),
      }),
    },
  ];

/** The faults of a seed, in their order, without end. The same seed and scale give the same ones. */
export function* scheduleOf(seed: number, scale: Scale): Generator<Step, never> {
  const random = new Random(seed);
  for (;;) {
    const afterMs = random.between(Math.round(scale.everyMs * 0.2), Math.round(scale.everyMs * 1.8));
    yield { afterMs, fault: random.weighted(MAKERS).make(random, scale) };
  }
}

/** One line about a fault: its kind and what tells it from others of the kind. */
export function describeFault(fault: Fault): string {
  const { kind, ...rest } = fault;
  const details = Object.entries(rest).map(([name, value]) =>
    typeof value === 'object' ? `${name}=${Object.values(value).join('/')}` : `${name}=${value}`,
  );
  return [kind, ...details].join(' ');
}

function one(random: Random, { coordinators }: Scale): number {
  return random.between(0, coordinators - 1);
}

/** One that may be ended. */
function mortal(random: Random, { coordinators, isFirstSpared }: Scale): number {
  return random.between(isFirstSpared ? 1 : 0, coordinators - 1);
}

function killAt(random: Random, scale: Scale): Fault {
  const { name } = random.pick(POINTS);
  return { kind: 'kill_at', coordinator: mortal(random, scale), point: name, hits: random.between(1, 4) };
}

function failAt(random: Random, scale: Scale): Fault {
  const { name, actions } = random.pick(POINTS.filter((point) => point.actions.length > 1));
  const action = random.pick(actions.filter((candidate) => candidate !== 'kill'));
  return {
    kind: 'fail_at',
    coordinator: one(random, scale),
    point: name,
    action,
    hits: random.between(1, 4),
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
