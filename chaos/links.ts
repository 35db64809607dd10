import type { StackUrls } from '../src/stack/types.ts';
import { TcpProxy } from './tcp-proxy.ts';

/** A link that can be damaged, and the addresses behind it. */
export class Link {
  readonly proxy: TcpProxy;

  private constructor(proxy: TcpProxy) {
    this.proxy = proxy;
  }

  /** One in front of the server that `url` names. */
  static async to(url: string): Promise<Link> {
    const { hostname, port } = new URL(url);
    return new Link(await TcpProxy.start(hostname, Number(port)));
  }

  /** `url`, by way of this link. */
  through(url: string): string {
    const moved = new URL(url);
    moved.hostname = '127.0.0.1';
    moved.port = String(this.proxy.port);
    if (moved.protocol === 'mongodb:') {
      // Else the driver asks the replica set for its members and goes past the link.
      moved.searchParams.delete('replicaSet');
      moved.searchParams.set('directConnection', 'true');
    }
    return moved.href;
  }
}

/** The four links of the coordinators, which they share, and the fleet's to the broker. The load goes past them all. */
export const LINKS = ['postgres', 'redis', 'rabbitmq', 'mongodb', 'fleet'] as const;
export type LinkName = (typeof LINKS)[number];
export type Links = Readonly<Record<LinkName, Link>>;

/** Puts a link in front of every server. */
export async function makeLinks(urls: StackUrls): Promise<Links> {
  return {
    postgres: await Link.to(urls.postgresAdmin),
    redis: await Link.to(urls.redis),
    rabbitmq: await Link.to(urls.amqp),
    mongodb: await Link.to(urls.mongo),
    fleet: await Link.to(urls.amqp),
  };
}
