import { AmqpBroker, type BrokerOptions } from '../broker/connection.ts';
import { systemClock } from '../clock.ts';
import type { Config } from '../config-schema.ts';

/** What does not depend on who connects; `start` gives up after one try, because a person waits. */
function optionsOf({ servers, broker }: Config): Omit<BrokerOptions, 'url' | 'name' | 'log'> {
  return {
    heartbeatS: broker.heartbeatS,
    connectTimeoutMs: servers.connectTimeoutMs,
    reconnectDelayMsMax: servers.reconnectDelayMsMax,
    initialTriesMax: 1,
    unconfirmedMax: broker.unconfirmedMax,
    confirmMsMax: broker.confirmMsMax,
    bounds: broker,
    clock: systemClock,
  };
}

/** RabbitMQ as somebody who is not a coordinator: a publisher or a node, whose every message carries `userId`. Not started. */
export function clientBroker(
  config: Config,
  client: Pick<BrokerOptions, 'url' | 'name' | 'log' | 'setup'> & { readonly userId: string },
): AmqpBroker {
  return new AmqpBroker({ ...optionsOf(config), ...client });
}

/** RabbitMQ with the coordinators' login, for a command that declares something in `setup`. Not started. */
export function operatorBroker(
  config: Config,
  log: BrokerOptions['log'],
  setup: NonNullable<BrokerOptions['setup']>,
): AmqpBroker {
  return new AmqpBroker({
    ...optionsOf(config),
    url: config.servers.amqpUrl,
    name: 'tollgate command',
    log,
    setup,
  });
}
