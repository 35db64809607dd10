import { AmqpBroker, type BrokerOptions } from '../broker/connection.ts';
import { systemClock } from '../clock.ts';
import type { Config } from '../config-schema.ts';

/**
 * RabbitMQ as somebody who is not a coordinator: a publisher or a node, whose every message carries `userId`. Not started;
 * `start` gives up after one try, because a person waits.
 */
export function clientBroker(
  { servers, broker }: Config,
  client: Pick<BrokerOptions, 'url' | 'name' | 'log'> & Partial<BrokerOptions> & { readonly userId: string },
): AmqpBroker {
  return new AmqpBroker({
    heartbeatS: broker.heartbeatS,
    connectTimeoutMs: servers.connectTimeoutMs,
    reconnectDelayMsMax: servers.reconnectDelayMsMax,
    initialTriesMax: 1,
    unconfirmedMax: broker.unconfirmedMax,
    confirmMsMax: broker.confirmMsMax,
    bounds: broker,
    clock: systemClock,
    ...client,
  });
}
