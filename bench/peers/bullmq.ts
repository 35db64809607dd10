import { Queue, Worker } from 'bullmq';
import { Redis } from 'ioredis';
import type { JobMessage } from '../../src/contracts/job.ts';
import { machineMs } from '../measure/clock.ts';
import { type PeerPlace, type PeerQueue, servePeer } from './peer.ts';
import type { Setting } from './settings.ts';

const NAME = 'dispatch';
/** Jobs that are added at a time. */
const CHUNK = 1_000;

/** BullMQ: one worker with many jobs under way; each call of a handler has one job. */
class BullmqPeer implements PeerQueue {
  #connection: Redis | null = null;
  #queue: Queue<JobMessage> | null = null;
  #worker: Worker<JobMessage> | null = null;

  async open({ redisUrl }: PeerPlace): Promise<void> {
    this.#connection = new Redis(redisUrl, { maxRetriesPerRequest: null });
    this.#queue = new Queue<JobMessage>(NAME, { connection: this.#connection, skipVersionCheck: true });
    await this.#queue.waitUntilReady();
  }

  async fill(jobs: readonly JobMessage[]): Promise<void> {
    for (let from = 0; from < jobs.length; from += CHUNK)
      await this.#queue?.addBulk(
        jobs.slice(from, from + CHUNK).map((data) => ({
          name: 'job',
          data,
          // The job's own id keeps a second add of the same job out; what is complete is not kept.
          opts: { jobId: data.id, removeOnComplete: true },
        })),
      );
  }

  async begin(
    { concurrency }: Setting,
    handle: (jobs: readonly JobMessage[]) => Promise<void>,
  ): Promise<number> {
    if (this.#connection === null) throw new Error('not open');
    const worker = new Worker<JobMessage>(NAME, ({ data }) => handle([data]), {
      connection: this.#connection,
      skipVersionCheck: true,
      concurrency,
      autorun: false,
    });
    worker.on('error', (error) => process.stderr.write(`bullmq: ${error.message}\n`));
    await worker.waitUntilReady();
    this.#worker = worker;
    const startMs = machineMs();
    void worker.run();
    return startMs;
  }

  async end(): Promise<number> {
    await this.#worker?.close();
    const counts = (await this.#queue?.getJobCounts()) ?? {};
    return Object.values(counts).reduce((sum, count) => sum + count, 0);
  }
}

servePeer(new BullmqPeer());
