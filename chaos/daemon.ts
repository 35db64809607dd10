import { flushCompileCache } from 'node:module';
import { runService } from '../src/cli/run-service.ts';
import { systemClock } from '../src/clock.ts';
import { loadConfig } from '../src/config.ts';
import { runDaemon } from '../src/main.ts';
import { createLog } from '../src/ops/log.ts';
import { inputOf } from './child.ts';
import { decorateWith, steppedClock } from './decorate.ts';
import { type Armed, Failpoints } from './failpoints.ts';

/** What a coordinator is started with. */
export interface DaemonInput {
  readonly flags: Readonly<Record<string, string>>;
  /** Armed before it starts. */
  readonly armed: Armed | null;
}

/** What it can be told. */
export type DaemonOrder =
  | { readonly kind: 'arm'; readonly armed: Armed | null }
  /** The event loop stands still for so long. */
  | { readonly kind: 'block'; readonly ms: number }
  /** The wall clock is off by so much from now on. */
  | { readonly kind: 'clock'; readonly offsetMs: number };

/** What it says. */
export type DaemonWord =
  | { readonly kind: 'serving'; readonly httpUrl: string }
  | { readonly kind: 'fired'; readonly armed: Armed };

/** One coordinator as `tollgate serve` runs it, with failpoints in its seams and a hand on its clock. */
const input = await inputOf<DaemonInput>();
const config = loadConfig({ flags: input.flags, env: {} });
const log = createLog(config.log);
const say = (word: DaemonWord) => process.send?.(word);
const failpoints = new Failpoints((armed) => say({ kind: 'fired', armed }));
failpoints.arm(input.armed);
const clock = steppedClock(systemClock);

process.on('message', (order: DaemonOrder) => {
  if (order.kind === 'arm') failpoints.arm(order.armed);
  else if (order.kind === 'clock') clock.step(order.offsetMs);
  else Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, order.ms);
});

await runService(async (signal) => {
  const daemon = await runDaemon(config, { signal, log, decorate: decorateWith(failpoints, clock) });
  say({ kind: 'serving', httpUrl: daemon.httpUrl });
  // At an end by force nothing would be written.
  flushCompileCache();
  return daemon;
}, log);
process.exit(0);
