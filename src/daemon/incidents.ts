import type { Broker } from '../broker/types.ts';
import type { NodeHealthPg } from '../network/health.ts';
import { IncidentWatch } from '../network/incident-watch.ts';
import type { Database } from '../postgres/database.ts';
import type { FleetRedis } from '../workers/redis.ts';
import type { Base } from './base.ts';

/** Watches the servers without which workers seem silent or late that are neither. MongoDB is none of them. */
export function incidentsOf(
  { config, clock, log }: Base,
  servers: {
    readonly postgres: Database;
    readonly broker: Pick<Broker, 'onChange'>;
    readonly redis: FleetRedis;
  },
  health: NodeHealthPg,
): IncidentWatch {
  const { postgres, broker, redis } = servers;
  const watched = [
    {
      name: 'postgres',
      onChange: (heard: (isUp: boolean) => void) => postgres.onChange(({ isUp }) => heard(isUp)),
    },
    { name: 'rabbitmq', onChange: (heard: (isUp: boolean) => void) => broker.onChange(heard) },
    { name: 'redis', onChange: (heard: (isUp: boolean) => void) => redis.onChange(heard) },
  ];
  return new IncidentWatch(watched, config.fleet.lostAfterMs, health, clock, log);
}
