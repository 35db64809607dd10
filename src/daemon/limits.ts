import { Management } from '../broker/management.ts';
import { cutOffPermissions, publisherPermissions, vhostOf } from '../broker/permissions.ts';
import type { Config } from '../config-schema.ts';
import { CutOff, type PublisherRights } from '../dispatcher/cut-off.ts';
import { IntakeLimits } from '../dispatcher/intake-limits.ts';
import { countOpenLocks } from '../ledger/open-locks.ts';
import { PublisherBansPg } from '../network/publishers.ts';
import type { Base } from './base.ts';
import type { Stores } from './stores.ts';

/** What accounts and publishers may ask of this coordinator, and what happens to a publisher that floods. */
export function limitsOf(base: Base, stores: Stores): { limits: IntakeLimits; cutOff: CutOff } {
  const { config, clock, log, metrics } = base;
  const { dispatcherDb, directory, traces } = stores;
  const limits = new IntakeLimits(config.limits, clock, (publisher) => cutOff.onFlood(publisher));
  const cutOff = new CutOff({
    limits,
    directory,
    traces,
    clock,
    log,
    metrics,
    bounds: config.limits,
    bans: new PublisherBansPg(dispatcherDb),
    rights: rightsOf(config),
    countOpenLocks: (accountIds) => countOpenLocks(dispatcherDb, accountIds),
  });
  return { limits, cutOff };
}

/** RabbitMQ keeps a permission it has looked up for the life of a channel: what is taken takes effect with a new connection. */
function rightsOf({ servers }: Config): PublisherRights | null {
  if (servers.amqpAdminUrl === null) return null;
  const management = new Management({
    url: servers.amqpAdminUrl,
    vhost: vhostOf(servers.amqpUrl),
    requestMsMax: servers.connectTimeoutMs,
  });
  return {
    take: async (user) => {
      await management.setPermissions(user, cutOffPermissions(user));
      await management.closeConnections(user);
    },
    giveBack: (user) => management.setPermissions(user, publisherPermissions(user)),
  };
}
