import type { Config } from '../config-schema.ts';
import type { TraceStore } from '../traces/types.ts';
import { Coalescer } from './coalescer.ts';
import { type FinishedJob, leaveFinished } from './finished.ts';
import { buryDead, countExits, type LeaveDeps, replyToExits, traceDispatched, traceLeft } from './leave.ts';
import type { Arrival, Dispatched, Exit } from './types.ts';
import { UnderWay } from './under-way.ts';

interface DeparturesDeps extends LeaveDeps {
  readonly bounds: Pick<Config['line'], 'batchJobsMax' | 'batchEndsMax' | 'gatherMs'>;
  readonly traceStore: TraceStore;
}

/** What the line does at the end of a job. */
interface Farewells {
  /** Acknowledges a dispatched job. */
  readonly acknowledge: (arrival: Arrival) => void;
  /** Parts from one that left. */
  readonly part: (exit: Exit) => void;
  /** Gives back what could not be ended; throws what is no server's fault. */
  readonly handBack: (arrivals: readonly Arrival[], error: unknown) => void;
}

/**
 * How jobs leave the line, beside its batches: told, traced and only then answered to the broker. Those that left without a
 * dispatch may be waited for, or want to be back in their room, so their ends begin at once; dispatched jobs and the refusals of
 * a flood are gathered. A slow MongoDB slows the intake down instead of piling ends up. Source: docs/decisions/0006 and 0014.
 */
export class Departures {
  readonly #deps: DeparturesDeps;
  readonly #farewells: Farewells;
  /** Ends of batches that wait for RabbitMQ and MongoDB while the next batch already reserves and locks. */
  readonly #ends = new UnderWay();
  readonly #turnedAway: Coalescer<Exit>;
  readonly #dispatched: Coalescer<Dispatched>;

  constructor(deps: DeparturesDeps, farewells: Farewells) {
    const { clock, bounds } = deps;
    this.#deps = deps;
    this.#farewells = farewells;
    // One batch at a time: the others' dispatches take the same way to the broker as the refusals of a flood.
    this.#turnedAway = new Coalescer<Exit>(clock, { ...bounds, batchEndsMax: 1 }, owedFor, (exits) =>
      this.#leave(exits, []),
    );
    this.#dispatched = new Coalescer<Dispatched>(
      clock,
      bounds,
      ({ locked }) => owedFor(locked.admitted),
      (sent) => this.#depart(sent),
    );
  }

  /** Takes jobs beyond a limit; a flood of them holds up no batch, and the prefetch bounds how many wait. */
  turnAway(exits: readonly Exit[]): void {
    this.#turnedAway.offer(exits);
  }

  /** Takes a batch that is through its stages. Resolves when there is room for another. */
  async take(
    sent: readonly Dispatched[],
    exits: readonly Exit[],
    finished: readonly FinishedJob[],
  ): Promise<void> {
    this.#dispatched.offer(sent);
    if (exits.length > 0 || finished.length > 0) {
      this.#ends.add(this.#leave(exits, finished));
      await this.#ends.below(this.#deps.bounds.batchEndsMax);
    }
    await this.#dispatched.room();
  }

  /** Resolves when all that was taken has left. */
  async close(): Promise<void> {
    await Promise.all([this.#turnedAway.close(), this.#dispatched.close(), this.#ends.ended()]);
  }

  async #leave(exits: readonly Exit[], finished: readonly FinishedJob[]): Promise<void> {
    try {
      const answeredAgain = await leaveFinished(finished, this.#deps.traceStore);
      const settled = await buryDead([...exits, ...answeredAgain], this.#deps);
      await replyToExits(settled, this.#deps);
      await traceLeft(settled, finished, this.#deps);
      countExits(settled, this.#deps.metrics);
      for (const exit of settled) this.#farewells.part(exit);
    } catch (error) {
      const arrivals = [...exits, ...finished.map(({ known }) => known)].map(({ arrival }) => arrival);
      this.#farewells.handBack(arrivals, error);
    }
  }

  async #depart(sent: readonly Dispatched[]): Promise<void> {
    const arrivals = sent.map(({ locked }) => locked.admitted.arrival);
    try {
      await traceDispatched(sent, this.#deps);
      for (const arrival of arrivals) this.#farewells.acknowledge(arrival);
    } catch (error) {
      this.#farewells.handBack(arrivals, error);
    }
  }
}

/** By what an end is gathered. */
function owedFor({ arrival: { delivery, room } }: { readonly arrival: Arrival }) {
  return { consumer: room, isAwaited: room.isAwaited(delivery) };
}
