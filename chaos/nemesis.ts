import { setTimeout as sleep } from 'node:timers/promises';
import { systemClock } from '../src/clock.ts';
import type { Stack } from '../src/stack/stack.ts';
import type { Coordinator } from './coordinators.ts';
import type { Fleet } from './fleets.ts';
import type { Links } from './links.ts';
import {
  closeConnections,
  fillSpool,
  flush,
  refuseConnections,
  refuseWrites,
  setMemoryWatermark,
  stall,
  terminateBackends,
} from './server-faults.ts';
import {
  type CoordinatorFault,
  describeFault,
  type Fault,
  type LinkDamage,
  type ServerFault,
  type Step,
  type Target,
} from './schedule.ts';
import type { TcpProxy } from './tcp-proxy.ts';

/** How long a failpoint may wait for a call to come by. */
const TRIGGER_MS_MAX = 4_000;
/** With faults that overlap, a coordinator is let come back before it is struck again, unless it takes longer than this. */
const COME_BACK_MS_MAX = 5_000;

/** A fault as it was done. Times are wall-clock milliseconds since 1970. */
export interface DoneFault {
  readonly fault: Fault;
  readonly what: string;
  readonly fromMs: number;
  /** From now on nothing stands in the way of recovery. */
  readonly toMs: number;
  /** False for a failpoint that no call reached in time; then a coordinator was killed at random, if it was to be killed. */
  readonly isReached: boolean;
  /** What went wrong in doing it; null if nothing did. */
  readonly error: string | null;
}

/** Everything that can be harmed. */
export interface Victims {
  readonly stack: Stack;
  readonly coordinators: readonly Coordinator[];
  readonly fleets: readonly Fleet[];
  readonly links: Links;
}

/** Does faults, those of a target one after the other, and mends what it broke. */
export class Nemesis {
  readonly #done: DoneFault[] = [];
  readonly #victims: Victims;
  readonly #tell: (line: string) => void;

  constructor(victims: Victims, tell: (line: string) => void) {
    this.#victims = victims;
    this.#tell = tell;
  }

  /** What was done, by the time it began. */
  get done(): readonly DoneFault[] {
    return this.#done.toSorted((a, b) => a.fromMs - b.fromMs);
  }

  /** Follows the schedule of a target until `untilMs` (monotonic). What it began, it ends. Several may run at the same time. */
  async run(target: Target, steps: Iterator<Step>, untilMs: number): Promise<void> {
    const victim = typeof target === 'number' ? this.#victims.coordinators[target] : undefined;
    for (;;) {
      const next = steps.next();
      if (next.done === true) return;
      const { afterMs, fault } = next.value;
      await victim?.servesWithin(COME_BACK_MS_MAX);
      await sleep(afterMs);
      if (systemClock.monotonicMs() > untilMs) return;
      await this.#do(fault);
    }
  }

  async #do(fault: Fault): Promise<void> {
    const fromMs = systemClock.nowMs();
    const what = describeFault(fault);
    this.#tell(what);
    let isReached = true;
    let error: string | null = null;
    try {
      isReached = await this.#perform(fault);
    } catch (thrown) {
      error = thrown instanceof Error ? thrown.message : String(thrown);
      this.#tell(`  could not be done: ${error}`);
    }
    this.#done.push({ fault, what, fromMs, toMs: systemClock.nowMs(), isReached, error });
  }

  /** Resolves when the fault is over. False if its failpoint was not reached. */
  async #perform(fault: Fault): Promise<boolean> {
    let isReached = true;
    switch (fault.kind) {
      case 'kill':
      case 'kill_at':
      case 'fail_at':
      case 'drain':
      case 'roll':
      case 'pause':
      case 'block':
      case 'clock':
        isReached = await this.#harmCoordinator(fault);
        break;
      case 'fleet_kill':
        await this.#fleet(fault.fleet).kill();
        break;
      case 'fleet_pause':
        await this.#fleet(fault.fleet).pause(fault.ms);
        break;
      case 'link':
        await this.#harmLink(this.#victims.links[fault.link].proxy, fault.damage, fault.ms);
        break;
      case 'restart':
      case 'freeze':
      case 'terminate':
      case 'no_connections':
      case 'flush':
      case 'stall':
      case 'out_of_memory':
      case 'close':
      case 'alarm':
      case 'spool_full':
        await this.#harmServer(fault);
        break;
    }
    return isReached;
  }

  async #harmCoordinator(fault: CoordinatorFault): Promise<boolean> {
    if (fault.kind === 'roll') return await this.#roll();
    const victim = this.#victims.coordinators[fault.coordinator];
    if (victim === undefined) throw new Error(`there is no coordinator ${fault.coordinator}`);
    if (fault.kind === 'kill_at' || fault.kind === 'fail_at') {
      const { point, hits } = fault;
      const action = fault.kind === 'kill_at' ? 'kill' : fault.action;
      const isReached = await victim.trigger({ point, action, hits }, TRIGGER_MS_MAX);
      if (!isReached && action === 'kill') await victim.kill();
      return isReached;
    }
    if (fault.kind === 'kill') await victim.kill();
    else if (fault.kind === 'drain') await victim.drain();
    else if (fault.kind === 'pause') await victim.pause(fault.ms);
    else if (fault.kind === 'block') {
      victim.order({ kind: 'block', ms: fault.ms });
      await sleep(fault.ms);
    } else {
      victim.order({ kind: 'clock', offsetMs: fault.offsetMs });
      await sleep(fault.ms);
      victim.order({ kind: 'clock', offsetMs: 0 });
    }
    return true;
  }

  async #roll(): Promise<true> {
    for (const coordinator of this.#victims.coordinators) {
      await coordinator.drain();
      await coordinator.serving();
    }
    return true;
  }

  async #harmServer(fault: ServerFault): Promise<void> {
    const { stack } = this.#victims;
    switch (fault.kind) {
      case 'restart': {
        const server = stack.server(fault.server);
        await server.stop(fault.how);
        await sleep(fault.awayMs);
        return await server.start();
      }
      case 'freeze': {
        const server = stack.server(fault.server);
        server.pause();
        await sleep(fault.ms);
        return server.resume();
      }
      case 'terminate':
        return await terminateBackends(stack.urls.postgresAdmin);
      case 'no_connections':
        return await refuseConnections(stack.urls.postgresAdmin, () => sleep(fault.ms));
      case 'flush':
        return await flush(stack.urls.redis);
      case 'stall':
        return await stall(stack.urls.redis, fault.ms);
      case 'out_of_memory':
        return await refuseWrites(stack.urls.redis, () => sleep(fault.ms));
      case 'close':
        return await closeConnections(stack.urls.amqpAdmin);
      case 'alarm':
        await setMemoryWatermark(stack, '0.000001');
        await sleep(fault.ms);
        return await setMemoryWatermark(stack, '0.6');
      case 'spool_full': {
        const mongodb = stack.server('mongodb');
        mongodb.pause();
        try {
          return await fillSpool(stack.urls.amqpAdmin, () => sleep(fault.ms));
        } finally {
          mongodb.resume();
        }
      }
    }
  }

  async #harmLink(proxy: TcpProxy, damage: LinkDamage, ms: number): Promise<void> {
    switch (damage.kind) {
      case 'cut':
        proxy.cut();
        break;
      case 'black_hole':
        proxy.swallow();
        break;
      case 'hold_answers':
        proxy.holdAnswers();
        break;
      case 'latency':
        proxy.delay(damage.ms, damage.jitterMs);
        break;
      case 'slow':
        proxy.slowTo(damage.bytesPerS);
        break;
      case 'cut_after':
        proxy.cutAfter(damage.bytes);
        break;
    }
    await sleep(ms);
    proxy.heal();
  }

  #fleet(index: number): Fleet {
    const fleet = this.#victims.fleets[index];
    if (fleet === undefined) throw new Error(`there is no fleet ${index}`);
    return fleet;
  }
}
