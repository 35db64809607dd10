import type { Teardown, TestServers } from './servers.ts';
import { type TcpProxy, tcpProxy } from './tcp-proxy.ts';
import { type World, type WorldOptions, world } from './world.ts';

/** The four links of a daemon to its servers. Clients, workers and the tests' own connections go past them. */
export type Links = Readonly<Record<'postgres' | 'redis' | 'amqp' | 'mongo', TcpProxy>>;

/** A world whose daemon reaches every server through a link that can be damaged. */
export async function proxiedWorld(
  t: Teardown,
  options: Omit<WorldOptions, 'through'> = {},
): Promise<{ readonly tollgate: World; readonly links: Links }> {
  let links: Links | undefined;
  const through: WorldOptions['through'] = async (servers, urls) => {
    links = {
      postgres: await proxyOf(t, servers.postgresAdminUrl),
      redis: await proxyOf(t, servers.redisUrl),
      amqp: await proxyOf(t, servers.amqpUrl),
      mongo: await proxyOf(t, servers.mongoUrl),
    };
    return {
      postgresUrl: at(links.postgres, urls.postgresUrl),
      postgresSettlerUrl: at(links.postgres, urls.postgresSettlerUrl),
      postgresMaintainerUrl: at(links.postgres, urls.postgresMaintainerUrl),
      redisUrl: at(links.redis, urls.redisUrl),
      amqpUrl: at(links.amqp, urls.amqpUrl),
      mongoUrl: at(links.mongo, urls.mongoUrl),
    };
  };
  const tollgate = await world(t, { ...options, through });
  if (links === undefined) throw new Error('nothing was asked for links');
  return { tollgate, links };
}

function proxyOf(t: Teardown, url: TestServers[keyof TestServers]): Promise<TcpProxy> {
  const { hostname, port } = new URL(url);
  return tcpProxy(t, hostname, Number(port));
}

/** `url` with the port of a link. */
function at(link: TcpProxy, url: string): string {
  const moved = new URL(url);
  moved.hostname = '127.0.0.1';
  moved.port = String(link.port);
  if (moved.protocol === 'mongodb:') {
    // Else the driver asks the replica set for its members and goes past the link.
    moved.searchParams.delete('replicaSet');
    moved.searchParams.set('directConnection', 'true');
  }
  return moved.href;
}
