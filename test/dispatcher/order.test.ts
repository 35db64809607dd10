import t from 'tap';
import { decorateWith, steppedClock } from '../../chaos/decorate.ts';
import { Failpoints, type Site } from '../../chaos/failpoints.ts';
import { systemClock } from '../../src/clock.ts';
import { until } from '../support/until.ts';
import { world } from '../support/world.ts';

/**
 * What is said to the broker last is what makes a crash harmless: until then the job, the result or the row comes again. Here every
 * call of one job's way is written down as it ends, and the order is compared with that of `job-line.ts`, `result-line.ts`,
 * `failure-owner.ts` and `sweeps.ts`.
 */
class Recorder extends Failpoints {
  readonly ended: string[] = [];
  /** Called with the name of each call that has ended. */
  onEnded: (name: string) => void = () => undefined;

  constructor() {
    super(() => undefined);
  }

  override pass(point: string): void {
    this.#note(point);
  }

  override async around<T>(site: Site, call: () => Promise<T>): Promise<T> {
    const answer = await call();
    if (site.after !== undefined) this.#note(site.after);
    return answer;
  }

  #note(name: string): void {
    this.ended.push(name);
    this.onEnded(name);
  }

  /** Waits until all of `names` have ended. */
  async all(names: readonly string[]): Promise<void> {
    await until(() => names.every((name) => this.ended.includes(name)), `the end of ${names.join(', ')}`);
  }

  /** Those of `names`, in the order in which they ended. */
  of(names: readonly string[]): string[] {
    return this.ended.filter((name) => names.includes(name));
  }
}

async function recordedWorld(t: Parameters<typeof world>[0]) {
  const tollgate = await world(t, { workers: 0, isDaemonStarted: false });
  const recorder = new Recorder();
  const clock = steppedClock(systemClock);
  await tollgate.addNode('n1');
  await tollgate.startDaemon({}, decorateWith(recorder, clock));
  const worker = await tollgate.startHandWorker('n1', 4);
  await until(async () => (await tollgate.fleet.list()).length === 1, 'the worker to be known');
  return { tollgate, recorder, clock, worker };
}

type Recorded = Awaited<ReturnType<typeof recordedWorld>>;

const OUT = [
  'slot.reserve.after',
  'lock.committed',
  'dispatch.confirmed',
  'trace.request.after',
  'in.before_ack',
] as const;
const BACK = [
  'settle.committed',
  'slot.release.after',
  'reply.confirmed',
  'trace.attempt.after',
  'result.before_ack',
] as const;

/** Sends a job and waits until its way out has ended; what is recorded of that is answered and forgotten. */
async function sendOut({ tollgate, recorder, worker }: Recorded, attemptsMax: number) {
  const { limits, ...rest } = tollgate.job();
  const job = { ...rest, limits: { ...limits, attempts_max: attemptsMax } };
  await tollgate.send(job);
  const held = await worker.dispatched(job.id);
  await recorder.all([...OUT, 'in.acked']);
  const out = recorder.of(OUT);
  recorder.ended.splice(0);
  return { held, out };
}

await t.test('a job: each step waits for the one before', async (t) => {
  const recorded = await recordedWorld(t);
  const { recorder, worker } = recorded;
  const { held, out } = await sendOut(recorded, 1);
  t.same(out, OUT);
  await worker.finish(held);
  await recorder.all(BACK);
  t.same(recorder.of(BACK), BACK);
});

await t.test('a lost worker: what its attempt owes is struck off last', async (t) => {
  const recorded = await recordedWorld(t);
  await sendOut(recorded, 2);
  recorded.worker.fallSilent();
  const steps = ['give_up.committed', 'trace.attempt.after', 'retry.confirmed', 'owed_attempt.cleared'];
  await recorded.recorder.all(steps);
  t.same(recorded.recorder.of(steps), steps);
});

await t.test('a lost worker with the last try: the reply is struck off last', async (t) => {
  const recorded = await recordedWorld(t);
  await sendOut(recorded, 1);
  recorded.worker.fallSilent();
  const steps = ['give_up.committed', 'reply.confirmed', 'trace.attempt.after', 'owed.cleared'];
  await recorded.recorder.all(steps);
  t.same(recorded.recorder.of(steps), steps);
});

await t.test('a step of the wall clock changes no start window', async (t) => {
  const { tollgate, recorder, clock, worker } = await recordedWorld(t);
  for (const stepMs of [3_600_000, -3_600_000]) {
    recorder.onEnded = (name) => {
      if (name === 'lock.committed') clock.step(stepMs);
    };
    const job = tollgate.job();
    await tollgate.send(job);
    const held = await worker.dispatched(job.id);
    const { start_ms: startMs, remaining_ms: remainingMs } = held.message;
    t.ok(startMs > 0 && startMs <= tollgate.config.ledger.startWindowMs, `${startMs} ms to begin`);
    t.ok(remainingMs > 0 && remainingMs <= job.limits.timeout_ms, `${remainingMs} ms in all`);
    await worker.finish(held);
    t.equal((await tollgate.reply(job.id)).state, 'succeeded');
  }
});
