import { Lease } from '../maintenance/lease.ts';
import { Maintenance, type MaintenanceTask } from '../maintenance/maintenance.ts';
import { Workflows } from '../maintenance/workflows.ts';
import { purgeStrikes } from '../network/health.ts';
import { makePartitions } from '../postgres/schema-keeper.ts';
import type { Base } from './base.ts';
import type { Stores } from './stores.ts';

/** What one coordinator at a time does, and when (UTC). */
export function maintenanceOf({ config, clock, log, metrics }: Base, stores: Stores): Maintenance {
  const { id, maintainerDb, maintainerUrl } = stores;
  const { leaseTtlMs, recordDays } = config.maintenance;
  const tasks: readonly MaintenanceTask[] = [
    // Partitions stand three months ahead; four looks a day leave weeks to notice a failure.
    { name: 'partitions', cron: '17 */6 * * *', run: (fence) => makePartitions(maintainerDb, fence) },
    {
      name: 'strikes',
      cron: '41 3 * * *',
      run: (fence) => purgeStrikes(maintainerDb, fence, config.health.strikeKeepDays),
    },
  ];
  const { connectTimeoutMs } = config.servers;
  return new Maintenance({
    lease: new Lease('maintenance', maintainerDb, id, leaseTtlMs),
    tasks,
    makeWorkflows: () => new Workflows({ url: maintainerUrl, connectTimeoutMs, recordDays }, log),
    bounds: config.maintenance,
    clock,
    log,
    metrics,
  });
}
