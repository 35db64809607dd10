import { readFileSync } from 'node:fs';
import { Faults } from '../../simulation/faults.ts';
import { SimFleet } from '../../simulation/fleet.ts';
import { fleetOver, SimServer } from '../../simulation/servers.ts';
import { EPOCH_MS, Timeline } from '../../simulation/timeline.ts';
import { cellBase, wakeChannel } from '../../src/workers/keys.ts';
import type {
  FleetRegistry,
  LeaseUpkeep,
  ReserveAnswer,
  ReserveRequest,
  SlotLeases,
} from '../../src/workers/types.ts';
import { LONG, TestFleet } from '../workers/fleet-fixture.ts';
import { isolatedServers, type Teardown } from '../support/servers.ts';
import { until } from '../support/until.ts';

/** What time is passed in. Whatever else takes time, here and on Redis, must stay far below it: see `BOUNDS`. */
export const STEP_MS = 1_000_000;

/**
 * Bounds that lie between whole steps, at least 200 s above one, as do a third of `lostAfterMs` and four times it. Two times of a
 * sequence are whole steps and what the calls between them took apart, so that those few seconds never decide.
 */
export const BOUNDS = { ...LONG, heartbeatMs: 2_500_000, lostAfterMs: 10_200_000, leaseTtlMs: 12_500_000 };

/** Its network is quick and nothing of it fails: virtual time that a call takes stays below this. */
const TIMELINE_SEED = 2;
const CALL_MS_MAX = 1_000;

/** A message on the wake-up channel that is no pool: all wake-ups before it have arrived when it has. */
const MARK = '-';

const MOVE_TIME = readFileSync(new URL('./move-time.lua', import.meta.url), 'utf8');

/** The live fleet as a coordinator has it, of either kind. */
export interface Side {
  readonly leases: SlotLeases & LeaseUpkeep;
  readonly registry: FleetRegistry;
}

/** What one call did: its answer, and the pools it woke. */
interface Deed<T> {
  readonly answer: T;
  readonly woken: readonly string[];
}

/** What the same call did to each of the two. */
export interface Deeds<T> {
  readonly real: Deed<T>;
  readonly sim: Deed<T>;
}

/** A cell's epoch as each of the two has it. */
interface Epochs {
  readonly sim: number;
  readonly real: number;
}

/** The live fleet twice, on Redis and in memory, for which the same time passes and which are asked the same. */
export class Twins {
  readonly real: TestFleet;
  readonly #prefix: string;
  readonly #simWoken: string[] = [];
  #timeline = new Timeline(TIMELINE_SEED);
  #sim: SimFleet | null = null;
  #simSide: Side | null = null;
  #passedMs = 0;

  constructor(redisUrl: string, prefix: string) {
    this.#prefix = prefix;
    this.real = new TestFleet(redisUrl, { ...BOUNDS, keyPrefix: prefix });
  }

  /** Both empty, at the same time; `bend` may break the one in memory. */
  async begin(bend: (fleet: SimFleet) => void = () => undefined): Promise<void> {
    await this.real.raw.flushdb();
    this.hear(true);
    this.#timeline = new Timeline(TIMELINE_SEED);
    this.#passedMs = 0;
    const timeline = this.#timeline;
    const faults = new Faults(timeline);
    faults.isOn = false;
    const sim = new SimFleet({
      nowMs: () => EPOCH_MS + timeline.nowMs,
      bounds: BOUNDS,
      onWake: (pool) => this.#simWoken.push(pool),
      onReleased: () => undefined,
    });
    const caller = { isAlive: () => true, timeline, name: 'twin' };
    const side = fleetOver(
      new SimServer('redis', timeline, faults),
      sim,
      caller,
      new Set(),
      () => this.real.isListening,
    );
    this.#sim = sim;
    this.#simSide = { leases: side, registry: side };
    bend(sim);
  }

  /** Whether the coordinator hears the fleet, so that it may judge silence. */
  hear(isListening: boolean): void {
    this.real.isListening = isListening;
  }

  get sim(): SimFleet {
    if (!this.#sim) throw new Error('not begun');
    return this.#sim;
  }

  /** The time in memory. */
  get nowMs(): number {
    return EPOCH_MS + this.#timeline.nowMs;
  }

  /** Lets so much time pass, at least: what calls took is rounded up to a whole millisecond. */
  async pass(ms: number): Promise<void> {
    const untilMs = Math.ceil(this.#timeline.nowMs) + ms;
    await this.#timeline.run(untilMs, () => false);
    const byMs = untilMs - this.#passedMs;
    this.#passedMs = untilMs;
    await this.real.raw.eval(MOVE_TIME, 1, cellBase(this.#prefix, 0), String(byMs));
  }

  /** FLUSHALL. */
  async empty(): Promise<void> {
    await this.real.raw.flushdb();
    this.sim.empty();
  }

  /** Asks both the same; each answer with the pools that were woken. A millisecond passes, so that calls are ordered in time. */
  async ask<T>(call: (side: Side) => Promise<T>): Promise<Deeds<T>> {
    const real = await call(this.real);
    const sim = await this.onSim(call);
    await Promise.all([this.#wakeUpsHeard(), this.pass(1)]);
    return {
      real: { answer: real, woken: takeAll(this.real.woken) },
      sim: { answer: sim, woken: takeAll(this.#simWoken) },
    };
  }

  /** As `ask`. Of workers that are equally good the one in memory takes the same as Redis, if it finds it equally good. */
  async reserve(requests: readonly ReserveRequest[]): Promise<Deeds<ReserveAnswer[]>> {
    const chosen = new Map<string, string>();
    this.sim.pick = (jobId, best) => best.find(({ node }) => node === chosen.get(jobId)) ?? best[0];
    return this.ask(async (side) => {
      const answers = await side.leases.reserveBatch(requests);
      for (const [i, answer] of answers.entries()) {
        if (side.leases === this.real.leases && answer.kind === 'got')
          chosen.set(requests[i]?.jobId ?? '', answer.node);
      }
      return answers;
    });
  }

  /** The epoch of the cell, which is not the same number on both. */
  async epochs(): Promise<Epochs> {
    const [real, sim] = await Promise.all([
      this.real.registry.cells(),
      this.onSim(({ registry }) => registry.cells()),
    ]);
    return { sim: epochOf(sim), real: epochOf(real) + this.#passedMs };
  }

  /** Opens the cell, if it still has that epoch. */
  async open(epochs: Epochs): Promise<Deeds<boolean>> {
    const real = epochs.real - this.#passedMs;
    return this.ask(({ leases }) => leases.open(0, leases === this.real.leases ? real : epochs.sim));
  }

  /** Every lease in memory, by its job. */
  simLeases() {
    return [...this.sim.leases.values()].toSorted((a, b) => (a.jobId < b.jobId ? -1 : 1));
  }

  /** `<node> <session>` of those that Redis would report as lost, whether or not somebody has watched for long enough. */
  realLost(): Promise<string[]> {
    return this.real.raw.zrange(`${cellBase(this.#prefix, 0)}:lost`, '0', '-1');
  }

  /** Asks the one in memory, and lets the network bring its answer. */
  async onSim<T>(call: (side: Side) => Promise<T>): Promise<T> {
    if (!this.#simSide) throw new Error('not begun');
    let isOver = false;
    const answer = call(this.#simSide).finally(() => {
      isOver = true;
    });
    await this.#timeline.run(this.#timeline.nowMs + CALL_MS_MAX, () => isOver);
    return answer;
  }

  /** Resolves when all wake-ups that Redis has told have arrived. */
  async #wakeUpsHeard(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const end = this.real.leases.onWake((pool) => pool === MARK && resolve());
    await this.real.raw.publish(wakeChannel(this.#prefix), MARK);
    await promise;
    end();
  }
}

/** Empties a list of wake-ups; returns the pools in it. */
function takeAll(woken: string[]): string[] {
  return woken
    .splice(0)
    .filter((pool) => pool !== MARK)
    .toSorted();
}

function epochOf([cell]: Awaited<ReturnType<FleetRegistry['cells']>>): number {
  if (!cell || cell.state === 'away') throw new Error('the cell is away');
  return cell.epochMs;
}

/** Both fleets, until `t` ends. */
export async function twins(t: Teardown): Promise<Twins> {
  const { redisUrl, keyPrefix } = await isolatedServers(t, { redis: true });
  const made = new Twins(redisUrl, keyPrefix);
  t.after(async () => {
    await made.real.redis.stop();
    made.real.raw.disconnect();
  });
  await made.real.redis.start();
  await until(() => made.real.raw.publish(wakeChannel(keyPrefix), MARK), 'somebody who listens to wake-ups');
  return made;
}
