import * as fc from 'fast-check';
import { jobId } from '../workers/fleet-fixture.ts';
import { STEP_MS } from './fleet-twins.ts';

/** Few of each, so that calls meet. */
export const NODES = ['n-1', 'n-2', 'n-3', 'n-4'] as const;
export const SESSIONS = [1, 2, 3] as const;
/** The last is the part of a model's workers that a constraint lets a job have. */
export const POOLS = ['a', 'b', 'a~r.eu'] as const;
const MODELS = ['a', 'b'] as const;

const job = fc.integer({ min: 1, max: 10 }).map(jobId);
const attempt = fc.constantFrom(1, 1, 1, 2, 3);
const node = fc.constantFrom(...NODES);
const session = fc.constantFrom<number>(1, 1, 1, 1, 1, 2, 2, 3);
const pool = fc.constantFrom(...POOLS);

const named = fc.record(
  { job, attempt, tokens: fc.constantFrom(0, 3) },
  { requiredKeys: ['job', 'attempt'] },
);

const said = fc.record({
  does: fc.constant('say' as const),
  kind: fc.constantFrom('hello', 'heartbeat', 'heartbeat', 'heartbeat', 'heartbeat', 'drain', 'bye'),
  node,
  session,
  /** Of a message: the next of its node, one that came already, or one that was overtaken. */
  order: fc.constantFrom('next', 'next', 'next', 'next', 'next', 'repeated', 'overtaken'),
  slots: fc.integer({ min: 1, max: 4 }),
  /** Slots that it has in use beside the leases it names. */
  unnamed: fc.constantFrom(0, 0, 0, 1, 3),
  pools: fc.oneof({ weight: 5, arbitrary: fc.subarray([...POOLS], { minLength: 1 }) }, fc.constant([])),
  warm: fc.subarray([...MODELS]),
  /** Whether it names the leases that it has; else only the others. */
  namesItsOwn: fc.constantFrom(true, true, true, false),
  others: fc.uniqueArray(named, { maxLength: 2, selector: (lease) => lease.job }),
  /** With its own, whether they give tokens yet. */
  isStreaming: fc.boolean(),
});

const reserved = fc.record({
  does: fc.constant('reserve' as const),
  requests: fc.uniqueArray(
    fc.record({
      jobId: job,
      attempt,
      pool,
      tried: fc.oneof(fc.constant([]), fc.subarray([...NODES], { maxLength: 2 })),
    }),
    { minLength: 1, maxLength: 6, selector: (request) => request.jobId },
  ),
});

/** Leases that stand, by their place among them, some of them with a wrong word; and others that hardly exist. */
const standing = fc.array(
  fc.record({
    place: fc.nat(),
    wrong: fc.constantFrom('nothing', 'nothing', 'nothing', 'attempt', 'node', 'session'),
  }),
  { minLength: 1, maxLength: 3 },
);
const others = fc.array(fc.record({ jobId: job, attempt, node, session }), { maxLength: 2 });
const released = fc.record({ does: fc.constant('release' as const), standing, others });

const rebuilt = fc.record({
  does: fc.constant('rebuild' as const),
  open: fc.uniqueArray(
    fc.record({ jobId: job, attempt, node, session: fc.constantFrom<number>(1, 1, 1, 2), pool }),
    {
      minLength: 1,
      maxLength: 4,
      selector: (one) => one.jobId,
    },
  ),
});

const opened = fc.record({
  does: fc.constant('open' as const),
  /** As the cell stands now, or as it stood when that was asked last. */
  epoch: fc.constantFrom('now', 'now', 'last'),
});

const reported = fc.record({
  does: fc.constant('take lost' as const),
  isListening: fc.constantFrom(true, true, true, false),
});

const forgotten = fc.record({
  does: fc.constant('forget' as const),
  /** One that was reported last, by its place among them; another one where there is none. */
  place: fc.nat(),
  node,
  session,
});

const expired = fc.record({ does: fc.constant('expire' as const), limit: fc.integer({ min: 1, max: 3 }) });

const steps = (...counts: number[]) => fc.constantFrom(...counts.map((count) => count * STEP_MS));
const waited = fc.record({ does: fc.constant('wait' as const), ms: steps(1, 1, 2, 3, 3, 4, 11, 13, 41) });

/** Redis is emptied, and nobody calls for a while. */
const emptied = fc.record({ does: fc.constant('empty' as const), quietMs: steps(1, 1, 11) });

/** What the sweep does, while some of the workers live: without it nobody is lost and no lease ends. */
const watched = fc.record({
  does: fc.constant('watch' as const),
  rounds: fc.integer({ min: 1, max: 6 }),
  everyMs: steps(2, 3, 3),
  living: fc.subarray([...NODES], { minLength: 2 }),
  namesItsOwn: fc.boolean(),
  limit: fc.integer({ min: 1, max: 3 }),
});

/** One thing that happens to the live fleet. */
export const step = fc.oneof(
  { weight: 45, arbitrary: said },
  { weight: 30, arbitrary: reserved },
  { weight: 14, arbitrary: released },
  { weight: 12, arbitrary: rebuilt },
  { weight: 6, arbitrary: opened },
  { weight: 4, arbitrary: fc.record({ does: fc.constant('progress' as const), standing, others }) },
  { weight: 6, arbitrary: reported },
  { weight: 8, arbitrary: forgotten },
  { weight: 6, arbitrary: expired },
  { weight: 8, arbitrary: waited },
  { weight: 10, arbitrary: watched },
  { weight: 2, arbitrary: emptied },
);
export type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

/** What may happen to a live fleet in its life; most begin with a cell that is open. */
export const life = fc.record({
  isOpen: fc.constantFrom(true, true, true, false),
  steps: fc.array(step, { maxLength: 60, size: 'max' }),
});
