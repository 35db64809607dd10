import { PgBoss } from 'pg-boss';
import type { JobMessage } from '../../src/contracts/job.ts';
import { machineMs } from '../measure/clock.ts';
import { type PeerPlace, type PeerQueue, servePeer } from './peer.ts';
import { askPostgres, countPostgres } from './postgres.ts';
import type { Setting } from './settings.ts';

const NAME = 'dispatch';
/** Jobs that are added at a time. */
const CHUNK = 1_000;
const POLL_S = 0.5;

/** pg-boss: workers that fetch a batch, handle it and complete it in one statement, and fetch again at once while batches are full. */
class PgBossPeer implements PeerQueue {
  #boss: PgBoss | null = null;
  #url = '';
  #filled = 0;

  async open({ postgresAdminUrl }: PeerPlace): Promise<void> {
    const boss = new PgBoss({ connectionString: postgresAdminUrl, schedule: false });
    boss.on('error', (error) => process.stderr.write(`pg-boss: ${String(error)}\n`));
    await boss.start();
    await boss.createQueue(NAME);
    this.#boss = boss;
    this.#url = postgresAdminUrl;
  }

  async fill(jobs: readonly JobMessage[]): Promise<void> {
    for (let from = 0; from < jobs.length; from += CHUNK)
      await this.#boss?.insert(
        NAME,
        jobs.slice(from, from + CHUNK).map((data) => ({ id: data.id, data })),
      );
    this.#filled = jobs.length;
    // Autovacuum would do it within the minute.
    await askPostgres(this.#url, 'vacuum (analyze) pgboss.job');
  }

  async begin(
    { concurrency, fetched }: Setting,
    handle: (jobs: readonly JobMessage[]) => Promise<void>,
  ): Promise<number> {
    const startMs = machineMs();
    await this.#boss?.work<JobMessage>(
      NAME,
      {
        batchSize: fetched,
        localConcurrency: concurrency,
        burstWhenBatchFull: true,
        pollingIntervalSeconds: POLL_S,
      },
      (jobs) => handle(jobs.map(({ data }) => data)),
    );
    return startMs;
  }

  async end(): Promise<number> {
    // Waits for the batches that are being completed.
    await this.#boss?.offWork(NAME, { wait: true });
    const completed = `select count(*) from pgboss.job where name = '${NAME}' and state = 'completed'`;
    const left = this.#filled - (await countPostgres(this.#url, completed));
    await this.#boss?.deleteAllJobs(NAME);
    return left;
  }
}

servePeer(new PgBossPeer());
