import { auditBounds, openAuditStores } from '../../src/audit/open-stores.ts';
import { runAudit } from '../../src/audit/run.ts';
import { jobQueue, PRIORITIES, QUEUE } from '../../src/contracts/names.ts';
import { Nodes } from '../../src/network/nodes.ts';
import type { ChildDaemon } from '../support/child-daemon.ts';
import { collectDeadLetters, type DeadLetter } from '../support/dead-letters.ts';
import { HandWorker, type HeldDispatch } from '../support/hand-worker.ts';
import { quietLog } from '../support/ledger.ts';
import type { Teardown } from '../support/servers.ts';
import { until } from '../support/until.ts';
import { type World, world } from '../support/world.ts';
import { cancelInput } from './cancel-inputs.ts';
import { FleetInputs } from './fleet-inputs.ts';
import { findingOf, Target, type Verdict } from './in-process.ts';
import type { Input } from './input.ts';
import { jobInput } from './job-inputs.ts';
import { FuzzDirectory, type KeyedNode } from './people.ts';
import { Random } from './random.ts';
import { spoiltResult } from './result-inputs.ts';
import { Strangers } from './strangers.ts';

/** What became of inputs that were really sent. */
export interface RealReport {
  readonly sent: number;
  /** Kind → inputs. */
  readonly byKind: Readonly<Record<string, number>>;
  /** Code → inputs that had to be refused with it. */
  readonly refusedByCode: Readonly<Record<string, number>>;
  /** Jobs whose sender can be answered, and those who heard what they had to hear. */
  readonly answerable: number;
  readonly answered: number;
  /** Transfers, and rows of jobs, that a message left that had to be refused. */
  readonly ledgerRows: number;
  readonly jobRows: number;
  readonly leftInQueues: number;
  readonly audit: string;
  readonly seconds: number;
  /** What was not as it must be, one line each. */
  readonly findings: readonly string[];
}

/** An input and what must come of it, as admission in this process says; a contradiction to the oracle is a finding already. */
interface Sent {
  readonly input: Input;
  readonly verdict: Verdict;
}

const MODEL_HELD = 'held';
const HELD_JOBS = 24;
const SLOTS = 24;
/** Refusals that go to nobody: the message is kept as a dead letter. */
const UNANSWERED: ReadonlySet<string> = new Set([
  'TG_SENDER_MISSING',
  'TG_SENDER_UNKNOWN',
  'TG_REPLY_TO_FOREIGN',
]);
/** Reply queues that somebody reads. */
const READ_QUEUES: ReadonlySet<string> = new Set(['reply.p-web', 'reply.p-idle', 'reply.p-rival']);
/** A share of each kind. Only part of what is made can be sent by a broker user, so more is made. */
const SHARES = { job: 0.5, cancel: 0.05, result: 0.3, fleet: 0.15 };
const SETTLE_MS_MAX = 60_000;
const FINDINGS_MAX = 20;

/**
 * Sends `count` inputs of `seed` to a coordinator of its own on the environment's servers, as real users of the broker, then looks at everything:
 * the answers, the dead letters, PostgreSQL, the queues, the audit. Nothing that had to be refused may have left a row.
 */
export async function fuzzReal(t: Teardown, seed: number, count: number): Promise<RealReport> {
  const startMs = performance.now();
  const fuzz = await RealFuzz.start(t, seed);
  await fuzz.send(count);
  return { ...(await fuzz.judge()), seconds: (performance.now() - startMs) / 1_000 };
}

/** One world with a coordinator, and everything that was sent to it. */
class RealFuzz {
  readonly #random: Random;
  readonly #world: World;
  readonly #daemon: ChildDaemon;
  readonly #strangers: Strangers;
  readonly #directory: FuzzDirectory;
  readonly #holder: HandWorker;
  readonly #letters: readonly DeadLetter[];
  readonly #sent: Sent[] = [];
  readonly #findings: string[] = [];
  readonly #heldIds: string[] = [];

  private constructor(
    seed: number,
    tollgate: World,
    daemon: ChildDaemon,
    strangers: Strangers,
    directory: FuzzDirectory,
    holder: HandWorker,
    letters: readonly DeadLetter[],
  ) {
    this.#random = new Random(seed, -2);
    this.#world = tollgate;
    this.#daemon = daemon;
    this.#strangers = strangers;
    this.#directory = directory;
    this.#holder = holder;
    this.#letters = letters;
  }

  static async start(t: Teardown, seed: number): Promise<RealFuzz> {
    const settings = { 'results.verifySampleShare': 1 };
    const tollgate = await world(t, {
      workers: 0,
      isDaemonStarted: false,
      settings,
      model: { tokensPerSecond: 1_000_000 },
    });
    const daemon = await tollgate.startChildDaemon(t);
    for (const name of ['idle', 'rival']) await tollgate.addPublisher(name);
    await tollgate.addAccount('rival', ['rival'], 1_000_000n);
    await tollgate.addModel('free', { inputPriceMicro: null });
    await tollgate.addModel(MODEL_HELD);
    const clients = [
      tollgate.client,
      await tollgate.connectClient('idle'),
      await tollgate.connectClient('rival'),
    ];
    await tollgate.connectStranger('p-ghost');
    await tollgate.addNode('n1');
    await tollgate.startWorker('n1', SLOTS);
    // A pool is only read while somebody serves it.
    await tollgate.addNode('n4', ['free']);
    await tollgate.startHandWorker('n4', 1, ['free']);
    const directory = new FuzzDirectory(new Random(seed, -1));
    const holder = await startHolder(tollgate, holderOf(directory));
    const strangers = new Strangers(tollgate, clients);
    const letters = await collectDeadLetters(tollgate);
    return new RealFuzz(seed, tollgate, daemon, strangers, directory, holder, letters);
  }

  async send(count: number): Promise<void> {
    const held = await this.#holdJobs();
    const target = new Target(this.#directory);
    const nowMs = Date.now();
    const fleet = new FleetInputs(this.#random, this.#directory, nowMs);
    const makers: Readonly<Record<Input['kind'], (random: Random) => Input>> = {
      job: (random) => jobInput(random, nowMs),
      cancel: (random) => cancelInput(random, nowMs),
      result: (random) => this.#spoil(random, held),
      fleet: (random) => fleet.make(random),
    };
    for (const kind of ['job', 'cancel', 'result', 'fleet'] as const) {
      const wanted = Math.round(count * SHARES[kind]);
      for (let found = 0; found < wanted; ) {
        const input = makers[kind](this.#random);
        if (!this.#strangers.canSend(input)) continue;
        const verdict = await target.judge(input);
        if (!isForeseeable(input, verdict)) continue;
        found += 1;
        const contradiction = findingOf(input, verdict);
        if (contradiction !== null) this.#find(input, `${contradiction.what}: ${contradiction.detail}`);
        this.#sent.push({ input, verdict });
        await this.#strangers.send(input);
      }
    }
    await this.#strangers.allConfirmed();
    await this.#finish(held);
  }

  async judge(): Promise<Omit<RealReport, 'seconds'>> {
    const { answerable, answered } = await this.#judgeAnswers();
    await this.#judgeLetters();
    await this.#judgeCounters();
    const last = await this.#world.run(this.#world.job());
    if (last.state !== 'succeeded') this.#findings.push(`the good job behind it all ended ${last.state}`);
    const rows = await this.#judgeRows();
    const leftInQueues = await this.#judgeQueues();
    const errors = this.#daemon.log.split('\n').filter((line) => /"level":"(error|fatal)"/.test(line));
    for (const line of errors) this.#findings.push(`the log says ${line.slice(0, 300)}`);
    const audit = await this.#audit();
    if (audit !== 'ok') this.#findings.push(`the audit says ${audit}`);
    return {
      sent: this.#sent.length,
      byKind: countBy(this.#sent, ({ input }) => input.kind),
      refusedByCode: countBy(this.#sent, ({ verdict }) => codeOf(verdict) ?? 'accepted'),
      answerable,
      answered,
      ...rows,
      leftInQueues,
      audit,
      findings: this.#findings.slice(0, FINDINGS_MAX),
    };
  }

  /** Good jobs that the holder has in its hands: what forged results are about. */
  async #holdJobs(): Promise<HeldDispatch[]> {
    const held: HeldDispatch[] = [];
    for (let n = 0; n < HELD_JOBS; n++) {
      const job = this.#world.job({
        model: MODEL_HELD,
        limits: { ...this.#world.job().limits, timeout_ms: 60_000 },
      });
      this.#heldIds.push(job.id);
      await this.#world.send(job);
      held.push(await this.#holder.dispatched(job.id));
    }
    return held;
  }

  #spoil(random: Random, held: readonly HeldDispatch[]): Input {
    const chosen = random.pick(held);
    const [one, another] = [chosen, random.pick(held.filter((dispatch) => dispatch !== chosen))].map(
      ({ message }) => this.#holder.result(message),
    );
    const [other] = this.#directory.keyed;
    if (one === undefined || another === undefined || other === undefined) throw new Error('nothing is held');
    const at = { node: holderOf(this.#directory), other, another };
    return { ...spoiltResult(random, one, JSON.stringify(one), at), isStrict: true };
  }

  /** Every job that forged results were about is open still; the good results end them. */
  async #finish(held: readonly HeldDispatch[]): Promise<void> {
    await this.#world.queueIsEmpty(QUEUE.results);
    for (const { message } of held) {
      const row = await this.#world.books.job(message.job);
      if (row?.state !== 'locked') this.#findings.push(`a forged result ended ${message.job}: ${row?.state}`);
    }
    for (const one of held) await this.#holder.finish(one);
    for (const { message } of held) {
      const { state, charged_micro } = await this.#world.reply(message.job);
      if (state !== 'succeeded' || charged_micro !== 11)
        this.#findings.push(`${message.job} ended ${state} for ${charged_micro}`);
    }
  }

  async #judgeAnswers(): Promise<{ answerable: number; answered: number }> {
    const answerable = this.#sent.filter(({ input, verdict }) => isAnswerable(input, verdict));
    const open = () => answerable.filter((one) => this.#answersTo(one).length === 0);
    await until(() => open().length === 0, 'all answers', { timeoutMs: SETTLE_MS_MAX, everyMs: 200 }).catch(
      () => undefined,
    );
    let answered = 0;
    for (const one of answerable) {
      const isJob = one.input.kind === 'job';
      const expected = codeOf(one.verdict) ?? (isJob ? 'succeeded' : 'TG_JOB_CANCELLED');
      const heard = this.#answersTo(one);
      if (heard.length > 0 && heard.every((code) => code === expected)) answered += 1;
      else this.#find(one.input, `expected ${expected}, heard ${heard.join() || 'nothing'}`);
    }
    return { answerable: answerable.length, answered };
  }

  /** Codes, or states without one, of the replies to an input. */
  #answersTo({ input: { envelope } }: Sent): string[] {
    const about = this.#strangers.repliesTo(envelope.correlationId ?? '', envelope.messageId ?? '');
    return about.map(({ error, state }) => error?.code ?? state);
  }

  async #judgeLetters(): Promise<void> {
    const expected = this.#sent.filter(({ input, verdict }) => isClients(input) && isDead(verdict));
    const isThere = ({ input, verdict }: Sent) =>
      this.#letters.some(({ body, reason }) => reason === codeOf(verdict) && body.equals(input.body));
    await until(() => expected.every(isThere), 'all dead letters', { timeoutMs: 10_000 }).catch(
      () => undefined,
    );
    for (const one of expected)
      if (!isThere(one)) this.#find(one.input, `no dead letter with ${codeOf(one.verdict)}`);
    if (this.#letters.length !== expected.length)
      this.#findings.push(`${this.#letters.length} dead letters, not ${expected.length}`);
  }

  /** Results and fleet messages have no answer: each refusal is counted. */
  async #judgeCounters(): Promise<void> {
    const counted = async (
      series: string,
      labels: Record<string, string>,
      expected: number,
    ): Promise<void> => {
      const read = () => this.#world.metric(series, labels);
      await until(async () => (await read()) >= expected, series, { timeoutMs: 10_000 }).catch(
        () => undefined,
      );
      const found = await read();
      if (found !== expected)
        this.#findings.push(`${series} ${JSON.stringify(labels)} is ${found}, expected ${expected}`);
    };
    const results = countBy(
      this.#sent.filter(({ input }) => input.kind === 'result'),
      ({ verdict }) => codeOf(verdict) ?? '',
    );
    for (const [code, expected] of Object.entries(results))
      await counted('tollgate_results_refused_total', { code }, expected);
    const fleet = countBy(
      this.#sent.filter(({ input }) => input.kind === 'fleet'),
      ({ verdict }) => codeOf(verdict) ?? '',
    );
    for (const [code, expected] of Object.entries(fleet))
      await counted(
        'tollgate_fleet_messages_total',
        { outcome: code.replace('TG_FLEET_', '').toLowerCase() },
        expected,
      );
  }

  /** Rows that no accepted message explains. */
  async #judgeRows(): Promise<{ ledgerRows: number; jobRows: number }> {
    const mayHaveRow = new Set(this.#heldIds);
    const mayHaveTransfer = new Set(this.#heldIds);
    for (const { input, verdict } of this.#sent) {
      const id = input.envelope.messageId ?? '';
      if (!isClients(input)) continue;
      if (verdict.kind === 'accepted' && input.kind === 'job') mayHaveTransfer.add(id);
      if (verdict.kind === 'accepted' || verdict.isRemembered) mayHaveRow.add(id);
    }
    const { books, client } = this.#world;
    // The good job behind it all.
    const last = client.replies.at(-1)?.message.job ?? '';
    const jobs = await books.sql<{ id: string }>('select id::text from jobs.jobs');
    const transfers = await books.sql<{ id: string }>(
      `select id::text from credits.transfers where kind <> 'top_up'`,
    );
    const strange = (rows: readonly { id: string }[], allowed: ReadonlySet<string>) =>
      rows.filter(({ id }) => id !== last && !allowed.has(id)).map(({ id }) => id);
    const jobRows = strange(jobs, mayHaveRow);
    const ledgerRows = strange(transfers, mayHaveTransfer);
    for (const id of jobRows) this.#findings.push(`a row of jobs for ${id}`);
    for (const id of ledgerRows) this.#findings.push(`a transfer for ${id}`);
    return { jobRows: jobRows.length, ledgerRows: ledgerRows.length };
  }

  async #judgeQueues(): Promise<number> {
    const pools = ['small', 'free', MODEL_HELD].flatMap((model) =>
      PRIORITIES.map((priority) => jobQueue(model, priority)),
    );
    const names = [...pools, QUEUE.unroutable, QUEUE.expired, QUEUE.results, QUEUE.spool, QUEUE.dead];
    let left = 0;
    for (const name of names) {
      await this.#world.queueIsEmpty(name).catch(() => undefined);
      const { messages } = await this.#world.queue(name);
      if (messages > 0) this.#findings.push(`${messages} messages are left in ${name}`);
      left += messages;
    }
    return left;
  }

  async #audit(): Promise<string> {
    const { config, servers } = this.#world;
    const audited = { ...config, servers: { ...config.servers, postgresAdminUrl: servers.postgresAdminUrl } };
    const { stores, close } = await openAuditStores(audited, quietLog);
    try {
      const options = { bounds: auditBounds(audited), workerLogs: [], clockSkewMs: 0 };
      const report = await runAudit(stores, options);
      return report.verdict === 'ok' ? 'ok' : `${report.verdict} ${JSON.stringify(report.invariants)}`;
    } finally {
      await close();
    }
  }

  #find(input: Input, what: string): void {
    const body = input.body.toString('latin1').slice(0, 400);
    this.#findings.push(
      `${input.kind}, ${input.mutation}: ${what}; ${JSON.stringify(input.envelope)} ${body}`,
    );
  }
}

function holderOf(directory: FuzzDirectory): KeyedNode {
  const node = directory.keyed.find(({ lifecycle }) => lifecycle === 'probation');
  if (node === undefined) throw new Error('no node is on probation');
  return node;
}

/** Registers a node on probation, whose signatures are always looked at, and plays its worker by hand. */
async function startHolder(tollgate: World, { id, publicKey, privateKey }: KeyedNode): Promise<HandWorker> {
  const record = { id, owner: 'owner', publicKey, models: [MODEL_HELD], lifecycle: 'probation' } as const;
  await new Nodes(tollgate.admin).register(record);
  await tollgate.addBrokerUser(`n-${id}`);
  const broker = await tollgate.connectAs(`n-${id}`);
  const { heartbeatMs } = tollgate.config.fleet;
  const options = { node: id, slots: HELD_JOBS, models: [MODEL_HELD], heartbeatMs };
  const holder = new HandWorker(options, privateKey, broker);
  tollgate.onClose(async () => holder.fallSilent());
  await holder.start();
  return holder;
}

function codeOf(verdict: Verdict): string | null {
  return verdict.kind === 'refused' ? verdict.refusal.code : null;
}

/** What the real coordinator does with it is known here: results and fleet messages only where they are refused whatever the ledger says. */
function isForeseeable({ kind, expects, envelope }: Input, verdict: Verdict): boolean {
  if (kind === 'job') return true;
  // A cancellation of another id than it was made for may be of any time.
  if (verdict.kind !== 'refused')
    return expects === 'refused' || (kind === 'cancel' && expects === 'accepted');
  // The other nodes of this world have keys of their own.
  return codeOf(verdict) !== 'TG_FLEET_SIGNATURE' || envelope.userId === 'n-n2';
}

function isClients({ kind }: Input): boolean {
  return kind === 'job' || kind === 'cancel';
}

function isDead(verdict: Verdict): boolean {
  return verdict.kind === 'refused' && UNANSWERED.has(verdict.refusal.code);
}

function isAnswerable(input: Input, verdict: Verdict): boolean {
  const { envelope } = input;
  return isClients(input) && !isDead(verdict) && READ_QUEUES.has(envelope.replyTo ?? '');
}

function countBy<T>(all: readonly T[], keyOf: (one: T) => string): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const one of all) counts[keyOf(one)] = (counts[keyOf(one)] ?? 0) + 1;
  return counts;
}
