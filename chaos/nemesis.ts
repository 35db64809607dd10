import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { Redis } from 'ioredis';
import { Client } from 'pg';
import { systemClock } from '../src/clock.ts';
import { allProcesses } from '../src/stack/processes.ts';
import type { Stack } from '../src/stack/stack.ts';
import type { Coordinator } from './coordinators.ts';
import type { Fleet } from './fleets.ts';
import type { Links } from './links.ts';
import { describeFault, type Fault, type LinkDamage, type Step } from './schedule.ts';
import type { TcpProxy } from './tcp-proxy.ts';

/** How long a failpoint may wait for a call to come by. */
const TRIGGER_MS_MAX = 4_000;

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

/** Does faults, one after the other, and mends what it broke. */
export class Nemesis {
  readonly done: DoneFault[] = [];
  readonly #victims: Victims;
  readonly #tell: (line: string) => void;

  constructor(victims: Victims, tell: (line: string) => void) {
    this.#victims = victims;
    this.#tell = tell;
  }

  /** Follows the schedule until `untilMs` (monotonic). What it began, it ends. */
  async run(steps: Iterator<Step>, untilMs: number): Promise<void> {
    for (;;) {
      const next = steps.next();
      if (next.done === true) return;
      const { afterMs, fault } = next.value;
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
    this.done.push({ fault, what, fromMs, toMs: systemClock.nowMs(), isReached, error });
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
      case 'flush':
      case 'close':
      case 'alarm':
        await this.#harmServer(fault);
        break;
    }
    return isReached;
  }

  async #harmCoordinator(
    fault: Fault & { kind: 'kill' | 'kill_at' | 'fail_at' | 'drain' | 'roll' | 'pause' | 'block' | 'clock' },
  ): Promise<boolean> {
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

  async #harmServer(
    fault: Fault & { kind: 'restart' | 'freeze' | 'terminate' | 'flush' | 'close' | 'alarm' },
  ): Promise<void> {
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
      case 'flush':
        return await flush(stack.urls.redis);
      case 'close':
        return await closeConnections(stack.urls.amqpAdmin);
      case 'alarm':
        await setMemoryWatermark(stack, '0.000001');
        await sleep(fault.ms);
        return await setMemoryWatermark(stack, '0.6');
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

async function terminateBackends(url: string): Promise<void> {
  const client = new Client({ connectionString: url, connectionTimeoutMillis: 5_000 });
  client.on('error', () => undefined);
  await client.connect();
  try {
    await client.query(
      `select pg_terminate_backend(pid) from pg_stat_activity
        where backend_type = 'client backend' and pid <> pg_backend_pid()`,
    );
  } finally {
    await client.end().catch(() => undefined);
  }
}

async function flush(url: string): Promise<void> {
  const redis = new Redis(url, { retryStrategy: () => null });
  redis.on('error', () => undefined);
  try {
    await redis.flushall();
  } finally {
    redis.disconnect();
  }
}

/** As an operator would: of coordinators, workers and the load. */
async function closeConnections(adminUrl: string): Promise<void> {
  const { origin, username, password } = new URL(adminUrl);
  const authorization = `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
  const call = (path: string, method: string) =>
    fetch(`${origin}/api${path}`, {
      method,
      headers: { authorization },
      signal: AbortSignal.timeout(10_000),
    });
  const found: unknown = await (await call('/connections?columns=name', 'GET')).json();
  if (!Array.isArray(found)) throw new Error('the management API lists no connections');
  for (const connection of found) {
    const name: unknown = Reflect.get(Object(connection), 'name');
    if (typeof name === 'string') await call(`/connections/${encodeURIComponent(name)}`, 'DELETE');
  }
}

/** Through the broker's own tool, in the environment of this very broker: its cookie and its port mapper are its own. */
async function setMemoryWatermark(stack: Stack, share: string): Promise<void> {
  const name = `RABBITMQ_NODENAME=tollgate-${new URL(stack.urls.amqp).port}@localhost`;
  const environments = allProcesses().map(({ pid }) => environmentOf(pid));
  const found = environments.find((pairs) => pairs.includes(name));
  if (found === undefined) throw new Error('the broker does not run');
  const env = Object.fromEntries(
    found
      .filter((pair) =>
        /^(PATH|HOME|LC_ALL|ERL_EPMD_PORT|RABBITMQ_NODENAME|RABBITMQ_CONF_ENV_FILE)=/.test(pair),
      )
      .map((pair) => [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)]),
  );
  await promisify(execFile)('rabbitmqctl', ['set_vm_memory_high_watermark', share], { env, timeout: 30_000 });
}

/** `NAME=value` pairs of a process; none of one that is gone. */
function environmentOf(pid: number): readonly string[] {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0');
  } catch {
    return [];
  }
}
