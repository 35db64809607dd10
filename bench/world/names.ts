import { publisherUser } from '../../src/contracts/names.ts';

/** Who and what there is in every world of a bench. */

/** The model that every job asks for, and with it the pool. */
export const MODEL = 'bench-8b-instruct';

/** Who publishes. */
export const PUBLISHER = 'bench';

/** Who pays; jobs are spread evenly over them. */
export const ACCOUNTS = Array.from({ length: 100 }, (_, i) => `bench-${i}`);

/** Nodes with a queue each. */
export const NODES = Array.from({ length: 10 }, (_, i) => `bench-${i + 1}`);

/** The most that a worker may have: together more than any backlog, so that capacity never limits. */
export const SLOTS_PER_NODE = 4_096;

/** The most jobs of one run: those in the hands of the nodes hold their slots, 40,960 of all nodes together. */
export const RUN_JOBS_MAX = 32_000;

/** Where replies go. */
export const REPLY_QUEUE = `reply.${publisherUser(PUBLISHER)}`;

/** Who floods: a publisher and its account. It has no credit, so that the few that its limit lets in are not dispatched. */
export const FLOODER = 'bench-flooder';

/** Where the flooder is answered. */
export const FLOOD_REPLY_QUEUE = `reply.${publisherUser(FLOODER)}`;
