import { roleUrls } from './ledger.ts';
import type { TestServers } from './servers.ts';

/** The environment of a command that works on these servers, as an operator of everything has it. */
export function cliEnvironment(servers: TestServers): Record<string, string> {
  const { postgresUrl, postgresSettlerUrl, postgresMaintainerUrl } = roleUrls(servers.postgresAdminUrl);
  return {
    TOLLGATE_POSTGRES_URL: postgresUrl,
    TOLLGATE_POSTGRES_SETTLER_URL: postgresSettlerUrl,
    TOLLGATE_POSTGRES_MAINTAINER_URL: postgresMaintainerUrl,
    TOLLGATE_POSTGRES_ADMIN_URL: servers.postgresAdminUrl,
    TOLLGATE_REDIS_URL: servers.redisUrl,
    TOLLGATE_AMQP_URL: servers.amqpUrl,
    TOLLGATE_AMQP_ADMIN_URL: servers.amqpAdminUrl,
    TOLLGATE_MONGO_URL: servers.mongoUrl,
    TOLLGATE_FLEET_KEY_PREFIX: servers.keyPrefix.slice(0, 32),
  };
}
