import type { PlaceDeps } from '../api/job-place.ts';
import { queueDepth } from '../broker/queue-depth.ts';
import { TollgateError } from '../errors.ts';
import { JobRecords } from '../ledger/job-records.ts';
import type { Base } from './base.ts';
import type { Parts } from './parts.ts';
import type { Stores } from './stores.ts';

/** What answers why a job waits: it reads, and changes nothing. */
export function explaining({ config }: Base, { directory, dispatcherDb }: Stores, parts: Parts): PlaceDeps {
  const { registry, pools, attempts } = parts;
  const { amqpUrl: url, connectTimeoutMs } = config.servers;
  return {
    directory,
    fleet: registry,
    records: new JobRecords(dispatcherDb),
    triedNodes: async (jobId) => {
      const [facts] = await attempts.readRetries([jobId]);
      return facts?.tried ?? [];
    },
    seen: (jobId) => pools.seen(jobId),
    queueDepth: async (queue) => {
      try {
        return await queueDepth({ url, connectTimeoutMs }, queue);
      } catch (error) {
        // No such queue, or no broker: the rest of the answer stands without it.
        if (error instanceof TollgateError) return null;
        throw error;
      }
    },
  };
}
