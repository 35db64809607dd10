import { setTimeout as sleep } from 'node:timers/promises';
import { auditBounds, openAuditStores } from '../src/audit/open-stores.ts';
import { runAudit } from '../src/audit/run.ts';
import type { AuditReport } from '../src/audit/types.ts';
import { systemClock } from '../src/clock.ts';
import { createLog } from '../src/ops/log.ts';
import { type Books, hasEnded, type JobBook, type Probe } from './books.ts';
import { type Evidence, readEvidence, type SentMessage } from './evidence.ts';
import type { ChaosWorld } from './world.ts';

/** After the load and the faults have stopped, everything has this long to reach its end: by then it counts as lost. */
const QUIESCE_MS_MAX = 60_000;
/** Then the replies, the spool and the leases have this long. */
const REST_MS_MAX = 60_000;
const LOOK_MS = 500;
const AUDIT_EVERY_MS = 3_000;
const PROBE_MS = 5_000;
const EXAMPLES_MAX = 10;

/** Looks at the accounts every few seconds while everything moves; what it finds wrong is kept. */
export class OnlineProbe {
  readonly faults: string[] = [];
  taken = 0;
  readonly #books: Books;
  readonly #creditedMicro: bigint;
  #isRunning = true;
  #running: Promise<void> = Promise.resolve();

  constructor(books: Books, creditedMicro: bigint) {
    this.#books = books;
    this.#creditedMicro = creditedMicro;
  }

  start(): void {
    this.#running = this.#run();
  }

  async stop(): Promise<void> {
    this.#isRunning = false;
    await this.#running;
  }

  async #run(): Promise<void> {
    while (this.#isRunning) {
      try {
        this.#judge(await this.#books.probe());
      } catch {
        // PostgreSQL is away; the next one will see.
      }
      for (let waited = 0; waited < PROBE_MS && this.#isRunning; waited += 200) await sleep(200);
    }
  }

  #judge({ creditedMicro, toppedUpMicro, capturedMicro, capturesMicro, overdrawn }: Probe): void {
    this.taken += 1;
    if (creditedMicro !== this.#creditedMicro || toppedUpMicro !== this.#creditedMicro)
      this.faults.push(
        `credit is ${creditedMicro}, topped up ${toppedUpMicro}, given ${this.#creditedMicro}`,
      );
    if (capturedMicro !== capturesMicro)
      this.faults.push(`counters say ${capturedMicro} captured, transfers ${capturesMicro}`);
    if (overdrawn > 0) this.faults.push(`${overdrawn} accounts are overdrawn`);
  }
}

/** Jepsen's classes, and the columns of the promise. Each of `MUST_BE_ZERO` in the report has to be 0. */
export interface Verdict {
  /** Messages that the generator began. */
  readonly attempted: number;
  /** Those that the broker confirmed. */
  readonly acknowledged: number;
  readonly settled: number;
  /** Locked and ended without a charge. */
  readonly voided: number;
  /** Never locked: refused, expired in the queue, poison. */
  readonly refused: number;
  /** Confirmed to the generator, and without an end 60 s after everything was quiet. */
  readonly lost: number;
  /** Charged more than once, or told of two different charges. */
  readonly duplicated: number;
  /** Rows, replies or ends that nobody asked for or that contradict each other. */
  readonly unexpected: number;
  /** Whether the broker had them was not known, and they have their end. */
  readonly recovered: number;
  readonly unlockedDispatches: number;
  readonly slotsLeaked: number;
  readonly tracesMissing: number;
  /** Have an end, and no reply came. */
  readonly unanswered: number;
  /** Every other invariant of the audit that is broken or could not be settled. */
  readonly invariantsBroken: number;
  /** Snapshots with a fault, of `probes` taken. */
  readonly probesBroken: number;
  readonly probes: number;
  /** From the last fault to the last end, in milliseconds. */
  readonly quiesceMs: number;
  readonly replayed: number;
  /** Rows by how they ended: `failed TG_WORKER_LOST on good`. What ends on a good worker, no worker is to blame for. */
  readonly ends: Readonly<Record<string, number>>;
  /** Jobs that ended overdue on a good worker: nothing is lost, and a client would have liked another end. */
  readonly overdue: readonly string[];
  /** Up to ten of each kind of fault, in words. */
  readonly examples: readonly string[];
}

/** Columns of a verdict that must be zero. */
export const MUST_BE_ZERO = [
  'lost',
  'duplicated',
  'unexpected',
  'unlockedDispatches',
  'slotsLeaked',
  'tracesMissing',
  'unanswered',
  'invariantsBroken',
  'probesBroken',
] as const satisfies readonly (keyof Verdict)[];

/** Waits until everything that was confirmed has its end, at most a minute. Returns how long it took. */
export async function quiesce(books: Books, logFile: string): Promise<number> {
  const startMs = systemClock.monotonicMs();
  const pastMs = () => systemClock.monotonicMs() - startMs;
  while (pastMs() < QUIESCE_MS_MAX) {
    const { messages } = readEvidence(logFile);
    const rows = await books.jobs();
    if ([...messages].every(([key, message]) => !message.isConfirmed || hasEnded(message, rows.get(key))))
      break;
    await sleep(LOOK_MS);
  }
  return pastMs();
}

/** Waits for replies and for the audit to be settled, at most a minute, and returns the last audit. */
export async function settleAudit(world: ChaosWorld, books: Books, logFile: string): Promise<AuditReport> {
  const { config, workerLogs } = world;
  const endMs = systemClock.monotonicMs() + REST_MS_MAX;
  const { stores, close } = await openAuditStores(config, createLog({ level: 'silent' }));
  try {
    for (;;) {
      const isLast = systemClock.monotonicMs() > endMs;
      const areAnswered = unansweredOf(readEvidence(logFile), await books.jobs()).length === 0;
      if (areAnswered || isLast) {
        const report = await runAudit(stores, { bounds: auditBounds(config), workerLogs, clockSkewMs: 0 });
        if (report.verdict === 'ok' || isLast) return report;
      }
      await sleep(AUDIT_EVERY_MS);
    }
  } finally {
    await close();
  }
}

/** Holds the generator's log against PostgreSQL and the audit. */
export async function judge(
  books: Pick<Books, 'jobs' | 'capturedTwice'>,
  logFile: string,
  audit: AuditReport,
  probe: Pick<OnlineProbe, 'faults' | 'taken'>,
  quiesceMs: number,
): Promise<Verdict> {
  const evidence = readEvidence(logFile);
  const rows = await books.jobs();
  const { messages } = evidence;
  const all = [...messages];
  const confirmed = all.filter(([, message]) => message.isConfirmed);
  const lost = confirmed.filter(([key, message]) => !hasEnded(message, rows.get(key)));
  const duplicated = [...(await books.capturedTwice()), ...chargedTwice(messages)];
  const unexpected = unexpectedOf(evidence, rows);
  const unanswered = unansweredOf(evidence, rows);
  const states = [...rows.values()];
  const count = (isOne: (book: JobBook) => boolean) => states.filter(isOne).length;
  const broken = (prefix: string) => brokenOf(audit, (id) => id.startsWith(prefix));
  const other = brokenOf(audit, (id) => !/^(dispatch|slots|traces)\./.test(id));
  const auditNotes = audit.invariants
    .filter(({ verdict }) => verdict !== 'ok')
    .flatMap(({ id, verdict, note, examples }) => [
      `${id} is ${verdict}${note === null ? '' : `: ${note}`}`,
      ...examples.map((example) => `${id}: ${example.id}: ${example.what}`),
    ]);
  const rowless = all.filter(([key, { replies }]) => !rows.has(key) && replies.length > 0).length;
  return {
    attempted: all.length,
    acknowledged: confirmed.length,
    settled: count(({ state }) => state === 'succeeded'),
    voided: count((book) => wasLocked(book) && ['failed', 'cancelled', 'expired'].includes(book.state)),
    refused: count((book) => !wasLocked(book)) + rowless,
    lost: lost.length,
    duplicated: duplicated.length,
    unexpected: unexpected.length,
    recovered: all.filter(([key, message]) => message.wasUnknown && hasEnded(message, rows.get(key))).length,
    unlockedDispatches: broken('dispatch.'),
    slotsLeaked: broken('slots.'),
    tracesMissing: broken('traces.'),
    unanswered: unanswered.length,
    invariantsBroken: other,
    probesBroken: probe.faults.length,
    probes: probe.taken,
    quiesceMs: Math.round(quiesceMs),
    ends: endsOf(states),
    replayed: all.reduce((sum, [, { copies }]) => sum + copies, 0),
    overdue: states
      .filter(({ code, node }) => code === 'TG_JOB_OVERDUE' && node?.startsWith('good-') === true)
      .map(({ id, node, attempt }) => `${id}.${attempt} on ${node}`)
      .slice(0, EXAMPLES_MAX),
    examples: [
      ...lost.map(([key]) => `lost: ${key} (${rows.get(key)?.state ?? 'no row'})`).slice(0, EXAMPLES_MAX),
      ...duplicated.map((key) => `duplicated: ${key}`).slice(0, EXAMPLES_MAX),
      ...unexpected.slice(0, EXAMPLES_MAX),
      ...unanswered.map((key) => `unanswered: ${key} (${rows.get(key)?.state})`).slice(0, EXAMPLES_MAX),
      ...probe.faults.slice(0, EXAMPLES_MAX),
      ...auditNotes,
    ],
  };
}

/** Counts rows by state, code and kind of node, in the order of their names. */
function endsOf(books: readonly JobBook[]): Record<string, number> {
  const named = books.map(({ state, code, node }) =>
    [state, code, node === null ? null : `on ${node.replace(/-\d.*/, '')}`]
      .filter((part) => part !== null)
      .join(' '),
  );
  const counts = [...Map.groupBy(named, (name) => name)].map(([name, { length }]) => [name, length] as const);
  return Object.fromEntries(counts.toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

function wasLocked({ attempt }: JobBook): boolean {
  return attempt > 0;
}

function brokenOf({ invariants }: AuditReport, isMeant: (id: string) => boolean): number {
  return invariants
    .filter(({ id, verdict }) => isMeant(id) && verdict !== 'ok')
    .reduce((sum, { broken }) => sum + Math.max(1, broken), 0);
}

/** Confirmed, has its end, and its client never heard of it. */
function unansweredOf({ messages }: Evidence, rows: ReadonlyMap<string, JobBook>): string[] {
  return [...messages]
    .filter(
      ([key, message]) =>
        message.isConfirmed && message.replies.length === 0 && hasEnded(message, rows.get(key)),
    )
    .map(([key]) => key);
}

/** Jobs whose client was told of two charges. */
function chargedTwice(messages: ReadonlyMap<string, SentMessage>): string[] {
  return [...messages]
    .filter(([, { replies }]) => new Set(replies.map(({ chargedMicro }) => chargedMicro)).size > 1)
    .map(([key]) => key);
}

/** What contradicts the books, in words. */
function unexpectedOf({ messages, strays }: Evidence, rows: ReadonlyMap<string, JobBook>): string[] {
  const found = strays.map(({ key, state }) => `a reply to nobody: ${key} (${state})`);
  for (const key of rows.keys())
    if (!messages.has(key)) found.push(`a row of a job that nobody sent: ${key}`);
  for (const [key, { kind, replies }] of messages) {
    const book = rows.get(key);
    if (kind === 'poison' && book !== undefined) found.push(`poison has a row: ${key} (${book.state})`);
    for (const { state, chargedMicro, job } of replies) {
      if (kind === 'poison') {
        if (state !== 'refused') found.push(`poison was answered ${state}: ${key}`);
      } else if (job !== key) found.push(`a reply names ${job} and answers ${key}`);
      else if (book !== undefined && state !== book.state)
        found.push(`${key} was answered ${state} and is ${book.state} (${book.code})`);
      else if (book !== undefined && chargedMicro !== book.chargedMicro)
        found.push(`${key} was told ${chargedMicro} and was charged ${book.chargedMicro}`);
    }
  }
  return found;
}
