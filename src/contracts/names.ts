/**
 * Names on the broker: exchanges, queues and users. One file, so that no two rooms spell a queue differently.
 * The picture is in ARCHITECTURE.md; who may touch what is decided in `src/broker/permissions.ts`.
 */

/** `interactive` is served first; `batch` keeps a tenth when both wait. */
export const PRIORITIES = ['interactive', 'batch'] as const;
export type Priority = (typeof PRIORITIES)[number];

/** Direct, durable. Clients publish to `jobs`; nodes to `results` and `fleet`; coordinators to `dispatch` and `control`. */
export const EXCHANGE = {
  jobs: 'jobs',
  /** Alternate exchange of `jobs`: a job whose pool has no queue comes by here and is refused. */
  unroutable: 'jobs.unroutable',
  /** Where coordinators bring later attempts back into the pool queues; nobody else may write it. */
  retry: 'retry',
  /** Dead-letter exchange of the pool queues: jobs whose `wait_ms` ran out in the queue. */
  expired: 'jobs.expired',
  dispatch: 'dispatch',
  control: 'control',
  results: 'results',
  fleet: 'fleet',
} as const;

/** Queues that exist once. */
export const QUEUE = {
  unroutable: 'jobs.unroutable',
  expired: 'jobs.expired',
  cancel: 'jobs.cancel',
  results: 'results',
  spool: 'traces.spool',
  /** What could not be answered, with its reason in the header `x-tollgate-reason`. */
  dead: 'dead',
} as const;

/** Routing key of a cancellation on `jobs`. No pool's key is like it: those have a priority behind a dot. */
export const CANCEL_KEY = 'cancel';

/** Routing key of every message on `results`. */
export const RESULT_KEY = 'result';

/** Routing keys on `fleet`. */
export const FLEET_KEYS = ['hello', 'heartbeat', 'drain', 'bye'] as const;
export type FleetKey = (typeof FLEET_KEYS)[number];

/** Routing key of a job on `jobs`: `<pool>.<priority>`. */
export function jobKey(pool: string, priority: Priority): string {
  return `${pool}.${priority}`;
}

/** The queue that holds a pool's waiting jobs of one priority. */
export function jobQueue(pool: string, priority: Priority): string {
  return `jobs.${pool}.${priority}`;
}

/** The queue of a node's dispatches (routing key on `dispatch`: the node id). */
export function nodeQueue(node: string): string {
  return `node.${node}`;
}

/** The queue of a node's control messages (routing key on `control`: the node id). */
export function controlQueue(node: string): string {
  return `node.${node}.control`;
}

/** The queue in which coordinator `coordinator` (an id made at its start) hears the fleet: each has its own, so each hears all. */
export function fleetQueue(coordinator: string): string {
  return `fleet.${coordinator}`;
}

/** The RabbitMQ user of a node, which is also the `user_id` of all it sends. */
export function nodeUser(node: string): string {
  return `n-${node}`;
}

/** The RabbitMQ user of a publisher. */
export function publisherUser(publisher: string): string {
  return `p-${publisher}`;
}

/** True if `queue` is a reply queue that belongs to broker user `user`: `reply.<user>` or `reply.<user>.<anything>`. */
export function isOwnReplyQueue(queue: string, user: string): boolean {
  return queue === `reply.${user}` || queue.startsWith(`reply.${user}.`);
}
