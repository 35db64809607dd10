import type { Broker, ConsumerChannel } from '../src/broker/types.ts';
import { QUEUE } from '../src/contracts/names.ts';
import type { SimSeams, World } from './world.ts';

/** A deliberate mistake: it takes hold of what a coordinator is handed, or of a server. */
export interface Flaw extends SimSeams {
  readonly name: string;
  /** Once, before the seed is played. */
  bend(world: World): void;
}

/** No mistake. */
export const FLAWLESS: Flaw = {
  name: 'flawless',
  ledger: (ledger) => ledger,
  broker: (broker) => broker,
  bend: () => undefined,
};

/** Broken variants; the simulation must catch each. */
export const FLAWS: readonly Flaw[] = [
  {
    ...FLAWLESS,
    name: 'a job is acknowledged before its lock commits',
    broker: (broker) => acknowledgingEarly(broker, (queue) => /^jobs\..*(interactive|batch)$/.test(queue)),
  },
  {
    ...FLAWLESS,
    name: 'a result is acknowledged before it is settled',
    broker: (broker) => acknowledgingEarly(broker, (queue) => queue === QUEUE.results),
  },
  {
    ...FLAWLESS,
    name: 'a job goes to the reserved node and not to the one that the lock names',
    ledger: (ledger) => ({
      ...ledger,
      lockBatch: async (requests) => {
        const answers = await ledger.lockBatch(requests);
        return answers.map((answer, i) => {
          const { node, session } = requests[i] ?? {};
          if (answer.kind !== 'exists' || node === undefined || session === undefined) return answer;
          return { ...answer, node, session };
        });
      },
    }),
  },
  {
    ...FLAWLESS,
    name: 'a lock is answered and not committed',
    ledger: (ledger, world) => ({
      ...ledger,
      lockBatch: async (requests) => {
        const answers = await ledger.lockBatch(requests);
        if (world.timeline.random.share() < 0.1)
          for (const { jobId } of requests) {
            world.ledger.jobs.delete(jobId);
            world.ledger.transfers.delete(jobId);
          }
        return answers;
      },
    }),
  },
  {
    ...FLAWLESS,
    name: 'a settlement ignores the fence',
    bend: (world) => {
      world.ledger.isFence = () => true;
    },
  },
  {
    ...FLAWLESS,
    name: 'a retry does not move the fence',
    bend: (world) => {
      const move = world.ledger.moveFence.bind(world.ledger);
      world.ledger.moveFence = (row, request) => {
        const answer = move(row, request);
        row.attempt -= 1;
        row.node = request.node;
        row.session = request.session;
        return answer;
      };
    },
  },
  {
    ...FLAWLESS,
    name: 'a release does not compare',
    bend: (world) => {
      world.fleet.isLeaseOf = ({ jobId }) => world.fleet.leases.has(jobId);
    },
  },
  {
    ...FLAWLESS,
    name: 'a reply goes out before the settlement commits',
    ledger: (ledger, world) => ({
      ...ledger,
      settleBatch: async (requests) => {
        const answers = await ledger.settleBatch(requests);
        for (const { jobId } of requests) rollBack(world, jobId);
        return answers;
      },
    }),
  },
  {
    ...FLAWLESS,
    name: 'what was settled is charged again when it comes again',
    ledger: (ledger, world) => ({
      ...ledger,
      settleBatch: async (requests) => {
        const answers = await ledger.settleBatch(requests);
        for (const answer of answers) {
          const account =
            answer.kind === 'same' ? world.ledger.accounts.get(answer.job.accountId) : undefined;
          if (account && answer.kind === 'same') account.capturedMicro += answer.job.chargedMicro;
        }
        return answers;
      },
    }),
  },
  {
    ...FLAWLESS,
    name: 'nobody ends overdue jobs',
    ledger: (ledger) => ({ ...ledger, sweepOverdue: () => Promise.resolve([]) }),
  },
  {
    ...FLAWLESS,
    name: 'owed replies are forgotten',
    ledger: (ledger) => ({ ...ledger, owedReplies: () => Promise.resolve([]) }),
  },
];

/** Acknowledges what comes from these queues as soon as it comes. */
function acknowledgingEarly(broker: Broker, isMeant: (queue: string) => boolean): Broker {
  const early = (channel: ConsumerChannel): ConsumerChannel => ({
    consume: (queue, prefetch, onDelivery, onCancelled) =>
      channel.consume(
        queue,
        prefetch,
        (delivery) => {
          if (isMeant(queue)) delivery.acknowledge();
          onDelivery(delivery);
        },
        onCancelled,
      ),
    close: () => channel.close(),
  });
  return {
    publisher: broker.publisher,
    get isUp() {
      return broker.isUp;
    },
    onChange: (listener) => broker.onChange(listener),
    openChannel: async (onGone) => early(await broker.openChannel(onGone)),
  };
}

/** Undoes the end of a job for a moment: as if it were not committed yet. */
function rollBack(world: World, jobId: string): void {
  const row = world.ledger.jobs.get(jobId);
  const transfers = world.ledger.transfers.get(jobId);
  const account = row && world.ledger.accounts.get(row.accountId);
  if (!row || !account || row.state !== 'succeeded' || transfers === undefined) return;
  const { state, endedMs, chargedMicro } = row;
  const resolution = transfers.filter(({ phase }) => phase === 1);
  Object.assign(row, { state: 'locked', endedMs: null, chargedMicro: 0n });
  account.heldMicro += row.lockedMicro;
  account.capturedMicro -= chargedMicro;
  world.ledger.transfers.set(
    jobId,
    transfers.filter(({ phase }) => phase === 0),
  );
  world.timeline.at(50, () => {
    Object.assign(row, { state, endedMs, chargedMicro });
    account.heldMicro -= row.lockedMicro;
    account.capturedMicro += chargedMicro;
    world.ledger.transfers.set(jobId, [...(world.ledger.transfers.get(jobId) ?? []), ...resolution]);
  });
}
