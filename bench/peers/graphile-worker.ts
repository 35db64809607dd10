import { EventEmitter } from 'node:events';
import {
  Logger,
  makeWorkerUtils,
  run,
  type Runner,
  type WorkerEvents,
  type WorkerUtils,
} from 'graphile-worker';
import type { JobMessage } from '../../src/contracts/job.ts';
import { machineMs } from '../measure/clock.ts';
import { type PeerPlace, type PeerQueue, servePeer } from './peer.ts';
import { askPostgres, countPostgres } from './postgres.ts';
import type { Setting } from './settings.ts';

declare global {
  // oxlint-disable-next-line typescript/no-namespace -- how graphile-worker is told the payload of a task.
  namespace GraphileWorker {
    interface Tasks {
      dispatch: JobMessage;
    }
  }
}

const NAME = 'dispatch';
/** Jobs that are added at a time. */
const CHUNK = 1_000;
/** It says a word for every job, which nobody here reads. */
const logger = new Logger(() => () => undefined);

/** graphile-worker: jobs are fetched ahead into a local queue, and completed together at the end of a turn. */
class GraphileWorkerPeer implements PeerQueue {
  #utils: WorkerUtils | null = null;
  #runner: Runner | null = null;
  #url = '';

  async open({ postgresAdminUrl }: PeerPlace): Promise<void> {
    this.#url = postgresAdminUrl;
    this.#utils = await makeWorkerUtils({ connectionString: postgresAdminUrl, logger });
    await this.#utils.migrate();
  }

  async fill(jobs: readonly JobMessage[]): Promise<void> {
    for (let from = 0; from < jobs.length; from += CHUNK)
      await this.#utils?.addJobs(
        jobs.slice(from, from + CHUNK).map((payload) => ({ identifier: NAME, payload, jobKey: payload.id })),
      );
    // Autovacuum would do it within the minute.
    await askPostgres(this.#url, 'vacuum (analyze) graphile_worker._private_jobs');
  }

  async begin(
    { concurrency, fetched }: Setting,
    handle: (jobs: readonly JobMessage[]) => Promise<void>,
  ): Promise<number> {
    const events: WorkerEvents = new EventEmitter();
    let startMs = Number.NaN;
    // Its look at its own schema, for migrations, comes before that.
    events.once('pool:create', () => {
      startMs = machineMs();
    });
    this.#runner = await run({
      preset: {
        worker: {
          connectionString: this.#url,
          concurrentJobs: concurrency,
          maxPoolSize: concurrency + 1,
          localQueue: { size: fetched },
          completeJobBatchDelay: 0,
          failJobBatchDelay: 0,
          logger,
        },
      },
      events,
      noHandleSignals: true,
      parsedCronItems: [],
      taskList: { [NAME]: (payload) => handle([payload]) },
    });
    return startMs;
  }

  async end(): Promise<number> {
    await this.#runner?.stop();
    return countPostgres(this.#url, 'select count(*) from graphile_worker._private_jobs');
  }
}

servePeer(new GraphileWorkerPeer());
