import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import { CODES, invariant } from '../errors.ts';
import { VERSION } from '../version.ts';
import { PlainHistogram } from './plain-histogram.ts';
import { type Dependency, MAINTENANCE_TASKS, type Metrics, STAGES, type Stage } from './types.ts';

/** Seconds; a saturated stage takes milliseconds, a stage that repeats its call to a server takes up to 20 s. */
const STAGE_BOUNDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];
/** Seconds; up to the longest wait of priority interactive, and an hour for batch. */
const WAIT_BOUNDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 3600];

/** Label values, closed: anything else is counted as `other`, so no sender can make series. */
const OTHER = 'other';
const CODE_LABELS = Object.keys(CODES);
const RESULT_CODE_LABELS = CODE_LABELS.filter((code) => code.startsWith('TG_RESULT_'));
const FLEET_CODE_LABELS = CODE_LABELS.filter((code) => code.startsWith('TG_FLEET_'));
const END_STATES = ['succeeded', 'failed', 'expired', 'cancelled'] as const;
const FAILURE_CLASSES = ['node', 'network', 'capacity', 'invalid_request', 'coordinator', 'unknown'] as const;
const LOCK_ANSWERS = ['new', 'exists', 'refused', 'conflict', 'repriced'] as const;
/** What the fleet intake makes of a message. */
const FLEET_OUTCOMES = [
  'applied',
  'ignored',
  'superseded',
  'stale_session',
  'invalid',
  'sender',
  'signature',
  'away',
] as const;
const REPLY_OUTCOMES = ['confirmed', 'given_up', 'retried'] as const;
const RUN_OUTCOMES = ['done', 'failed', 'fenced'] as const;
const DEPENDENCIES = ['postgres', 'redis', 'rabbitmq', 'mongodb'] as const;

/** The library calls three gauges `…_total`, which promtool refuses; each has a per-type twin or is of no use. */
const MISNAMED = [
  'nodejs_active_handles_total',
  'nodejs_active_requests_total',
  'nodejs_active_resources_total',
];

const MS_PER_S = 1_000;

/** One of our metrics as `docs/metrics.md` shows it; `values` are the label's closed set, empty where it is open. */
export interface MetricEntry {
  readonly name: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly help: string;
  readonly labels: readonly string[];
  readonly values: readonly string[];
}

/** A counter kept as plain numbers, one per value of its label; the library's counter is filled when it is scraped. */
class PlainCounter {
  readonly #counts = new Map<string, number>();

  constructor(
    registry: Registry,
    name: string,
    help: string,
    label: string | null = null,
    values: readonly string[] = [''],
  ) {
    for (const value of values) this.#counts.set(value, 0);
    if (label !== null) this.#counts.set(OTHER, 0);
    const counts = this.#counts;
    // Registers itself; nothing else holds it.
    void new Counter({
      name,
      help,
      labelNames: label === null ? [] : [label],
      registers: [registry],
      collect() {
        this.reset();
        for (const [value, count] of counts) this.inc(label === null ? {} : { [label]: value }, count);
      },
    });
  }

  add(count: number, value = ''): void {
    const known = this.#counts.get(value);
    if (known === undefined) this.#counts.set(OTHER, (this.#counts.get(OTHER) ?? 0) + count);
    else this.#counts.set(value, known + count);
  }
}

function buildInfo(registry: Registry): void {
  new Gauge({
    name: 'tollgate_build_info',
    help: 'Always 1; the labels say what is running.',
    labelNames: ['version', 'node'],
    registers: [registry],
  }).set({ version: VERSION, node: process.versions.node }, 1);
}

/**
 * What Prometheus scrapes. Counting adds to plain numbers; nothing is formatted before `text` is called. Every series of a
 * closed label set exists at 0 from the start. Names follow prometheus.io/docs/practices/naming; times are in seconds.
 */
export class PrometheusMetrics implements Metrics {
  readonly #registry = new Registry();
  readonly #catalogue: MetricEntry[] = [];
  readonly #stageJobs = this.#counter('stage_jobs', 'Jobs that went through a stage.', 'stage', STAGES);
  readonly #stageFailures = this.#counter(
    'stage_failures',
    'Calls of a stage that failed and were repeated or handed back.',
    'stage',
    STAGES,
  );
  readonly #stageSeconds = this.#histogram(
    'stage_duration_seconds',
    'Time one batch took in a stage.',
    STAGE_BOUNDS,
    'stage',
    STAGES,
  );
  readonly #received = this.#counter('jobs_received', 'Deliveries taken from the queues of jobs.');
  readonly #redelivered = this.#counter('jobs_redelivered', 'Deliveries the broker marked redelivered.');
  readonly #refused = this.#counter('jobs_refused', 'Jobs refused.', 'code', CODE_LABELS);
  readonly #dispatched = this.#counter('jobs_dispatched', 'Dispatches confirmed by the broker.');
  readonly #ended = this.#counter('jobs_ended', 'Jobs that reached a final state.', 'state', END_STATES);
  readonly #attemptsFailed = this.#counter(
    'attempts_failed',
    'Attempts that failed, by whose fault it was.',
    'class',
    FAILURE_CLASSES,
  );
  readonly #retries = this.#counter(
    'retries',
    'Failed attempts that are followed by another, by whose fault it was.',
    'class',
    FAILURE_CLASSES,
  );
  readonly #queueWait = this.#histogram(
    'job_queue_wait_seconds',
    'From the time in the job id to its receipt.',
    WAIT_BOUNDS,
  );
  readonly #dispatch = this.#histogram(
    'job_dispatch_duration_seconds',
    'From receipt of a job to the confirm of its dispatch.',
    STAGE_BOUNDS,
  );
  readonly #resultsRefused = this.#counter(
    'results_refused',
    'Results with a fault; all but TG_RESULT_USAGE, TG_RESULT_MODEL and TG_RESULT_TOKENS settled nothing.',
    'code',
    RESULT_CODE_LABELS,
  );
  readonly #locks = this.#counter('credit_locks', 'Answers to requests for a lock.', 'answer', LOCK_ANSWERS);
  readonly #fleet = this.#counter('fleet_messages', 'Messages of workers.', 'outcome', FLEET_OUTCOMES);
  readonly #fleetRefused = this.#counter(
    'fleet_refused',
    'Messages of workers with a fault; of one with TG_FLEET_MODEL the rest counted.',
    'code',
    FLEET_CODE_LABELS,
  );
  readonly #replies = this.#counter('replies', 'Replies to clients.', 'outcome', REPLY_OUTCOMES);
  readonly #spooled = this.#counter(
    'trace_documents_spooled',
    'Documents that went to the spool queue because MongoDB was away.',
  );

  readonly #cutOffs = this.#counter('publishers_cut_off', 'Publishers that were cut off for flooding.');

  readonly #maintenanceRuns = this.#pairCounter('maintenance_runs', 'Runs of maintenance in this process.', {
    task: MAINTENANCE_TASKS,
    outcome: RUN_OUTCOMES,
  });

  constructor() {
    buildInfo(this.#registry);
    collectDefaultMetrics({ register: this.#registry });
    for (const name of MISNAMED) this.#registry.removeSingleMetric(name);
  }

  stage(stage: Stage, jobs: number, ms: number): void {
    this.#stageJobs.add(jobs, stage);
    this.#stageSeconds.add(stage, ms / MS_PER_S);
  }
  stageFailed(stage: Stage): void {
    this.#stageFailures.add(1, stage);
  }
  jobsReceived(count: number): void {
    this.#received.add(count);
  }
  redelivered(count: number): void {
    this.#redelivered.add(count);
  }
  refused(code: string): void {
    this.#refused.add(1, code);
  }
  dispatched(queueWaitMs: number, dispatchMs: number): void {
    this.#dispatched.add(1);
    this.#queueWait.add('', queueWaitMs / MS_PER_S);
    this.#dispatch.add('', dispatchMs / MS_PER_S);
  }
  attemptFailed(failureClass: string, action: 'retry' | 'fail'): void {
    this.#attemptsFailed.add(1, failureClass);
    if (action === 'retry') this.#retries.add(1, failureClass);
  }

  ended(state: (typeof END_STATES)[number]): void {
    this.#ended.add(1, state);
  }
  resultRefused(code: string): void {
    this.#resultsRefused.add(1, code);
  }
  locks(answer: string, count: number): void {
    this.#locks.add(count, answer);
  }
  fleetRefused(code: string): void {
    this.#fleetRefused.add(1, code);
  }
  fleetMessage(outcome: string): void {
    this.#fleet.add(1, outcome);
  }
  replies(outcome: (typeof REPLY_OUTCOMES)[number]): void {
    this.#replies.add(1, outcome);
  }
  spooled(documents: number): void {
    this.#spooled.add(documents);
  }

  publisherCutOff(): void {
    this.#cutOffs.add(1);
  }

  maintenanceRun(...[task, outcome]: Parameters<Metrics['maintenanceRun']>): void {
    this.#maintenanceRuns.inc({ task, outcome });
  }

  /** Registers `tollgate_<name>`; a reader that throws leaves its gauge out of that scrape and harms nothing else. */
  gauge(...[name, help, labelNames, read]: Parameters<Metrics['gauge']>): void {
    invariant(/^tollgate_[a-z][a-z0-9_]*(?<!_total)$/.test(name), `${name} is no name for a gauge`);
    this.#catalogue.push({ name, type: 'gauge', help, labels: labelNames, values: [] });
    void new Gauge({
      name,
      help,
      labelNames: [...labelNames],
      registers: [this.#registry],
      collect() {
        this.reset();
        try {
          for (const { labels, value } of read()) this.set(labels, value);
        } catch {
          this.reset();
        }
      },
    });
  }

  /** Publishes how the servers stand, as `tollgate_dependency_up{name}`; one that `read` does not name is 0. */
  watchDependencies(read: () => readonly Dependency[]): void {
    this.gauge('tollgate_dependency_up', '1 while a server answers, else 0.', ['name'], () => {
      const up = new Set(read().flatMap((dependency) => (dependency.isUp ? [dependency.name] : [])));
      return DEPENDENCIES.map((name) => ({ labels: { name }, value: up.has(name) ? 1 : 0 }));
    });
  }

  /** Everything in the text format that `contentType` names. */
  text(): Promise<string> {
    return this.#registry.metrics();
  }

  /** Our own metrics in the order they were registered; the process's are documented by prom-client. */
  get catalogue(): readonly MetricEntry[] {
    return this.#catalogue;
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  #counter(name: string, help: string, label: string | null = null, values: readonly string[] = ['']) {
    const full = `tollgate_${name}_total`;
    this.#note(full, 'counter', help, label, values);
    return new PlainCounter(this.#registry, full, help, label, values);
  }

  /** A counter with two closed labels, of what happens rarely. */
  #pairCounter(name: string, help: string, labels: Readonly<Record<string, readonly string[]>>): Counter {
    const full = `tollgate_${name}_total`;
    const labelNames = Object.keys(labels);
    this.#catalogue.push({ name: full, type: 'counter', help, labels: labelNames, values: [] });
    const counter = new Counter({ name: full, help, labelNames, registers: [this.#registry] });
    const [[first, firsts] = ['', []], [second, seconds] = ['', []]] = Object.entries(labels);
    for (const a of firsts) for (const b of seconds) counter.inc({ [first]: a, [second]: b }, 0);
    return counter;
  }

  #histogram(
    name: string,
    help: string,
    bounds: readonly number[],
    label: string | null = null,
    values: readonly string[] = [''],
  ) {
    const registry = this.#registry;
    this.#note(`tollgate_${name}`, 'histogram', help, label, values);
    return new PlainHistogram({ name: `tollgate_${name}`, help, bounds, label, values, registry });
  }

  #note(
    name: string,
    type: MetricEntry['type'],
    help: string,
    label: string | null,
    values: readonly string[],
  ) {
    const entry = { name, type, help };
    this.#catalogue.push(
      label === null ? { ...entry, labels: [], values: [] } : { ...entry, labels: [label], values },
    );
  }
}
