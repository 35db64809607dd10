/** What every room may be handed; imported as types only. */

/** Structured log. Never pass a prompt, an answer, a secret or a URL with a password. */
export interface Log {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
  child(fields: object): Log;
}

/** The lifecycle of every long-lived part: `stop` resolves when fully stopped; both may be called twice or out of order. */
export interface Service {
  start(): Promise<void>;
  stop(): Promise<void>;
}

/** How a dependency stands, for `/readyz?verbose` and the metric `tollgate_dependency_up`. */
export interface Dependency {
  readonly name: 'postgres' | 'redis' | 'rabbitmq' | 'mongodb';
  readonly isUp: boolean;
  readonly detail: string;
}

/** Stages of both directions, in order; label values of the stage metrics. */
export const STAGES = [
  'admit',
  'reserve',
  'lock',
  'dispatch',
  'trace_request',
  'verify',
  'settle',
  'release',
  'reply',
  'trace_attempt',
] as const;
export type Stage = (typeof STAGES)[number];

/** What the owner of maintenance does periodically; label values. */
export const MAINTENANCE_TASKS = ['partitions', 'strikes'] as const;
export type MaintenanceTaskName = (typeof MAINTENANCE_TASKS)[number];

/**
 * What the hot path counts. Implementations add to plain numbers; Prometheus reads them when it scrapes. Label values come
 * from closed sets, never a job, an account or a node.
 */
export interface Metrics {
  /** `jobs` went through `stage` in `ms` milliseconds (one call per batch). */
  stage(stage: Stage, jobs: number, ms: number): void;
  stageFailed(stage: Stage): void;
  jobsReceived(count: number): void;
  redelivered(count: number): void;
  refused(code: string): void;
  /** A job was dispatched: time since publish as far as its id tells, and time in our hands, both in ms. */
  dispatched(queueWaitMs: number, dispatchMs: number): void;
  /** An attempt failed, by whose fault it was and what was decided. */
  attemptFailed(failureClass: string, action: 'retry' | 'fail'): void;
  ended(state: 'succeeded' | 'failed' | 'expired' | 'cancelled'): void;
  resultRefused(code: string): void;
  /** Credit locks by what lockBatch answered: new, exists, refused, conflict, repriced. */
  locks(answer: string, count: number): void;
  fleetMessage(outcome: string): void;
  /** A word of a worker, or a part of one, that does not count. */
  fleetRefused(code: string): void;
  replies(outcome: 'confirmed' | 'given_up' | 'retried'): void;
  spooled(documents: number): void;
  publisherCutOff(): void;
  /** A run of maintenance ended; `fenced`: another coordinator had taken over, and nothing was changed. */
  maintenanceRun(task: MaintenanceTaskName, outcome: 'done' | 'failed' | 'fenced'): void;
  /** Registers a gauge read at scrape time, e.g. slots, held deliveries, batches in flight. */
  gauge(
    name: string,
    help: string,
    labelNames: readonly string[],
    read: () => readonly { labels: Record<string, string>; value: number }[],
  ): void;
}
