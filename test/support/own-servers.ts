import { type Stack, startStack } from '../../src/stack/stack.ts';
import type { Teardown, TestServers } from './servers.ts';

/** Four servers of a test's own, which it may stop and start; they end with `t`. The environment's servers are not touched. */
export async function ownServers(
  t: Teardown,
): Promise<{ readonly stack: Stack; readonly servers: TestServers }> {
  const stack = await startStack({ environment: {} });
  t.after(() => stack.stop());
  const { postgresAdmin, redis, amqp, amqpAdmin, mongo } = stack.urls;
  const servers: TestServers = {
    postgresAdminUrl: postgresAdmin,
    redisUrl: redis,
    keyPrefix: 'tollgate',
    amqpUrl: amqp,
    amqpAdminUrl: amqpAdmin,
    vhost: '/',
    mongoUrl: mongo,
  };
  return { stack, servers };
}
