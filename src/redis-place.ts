/** What `servers.redisUrl` must look like; shown instead of the URL, which may hold a password. */
export const REDIS_URL_FORM =
  'redis://host:port/number, or several nodes of a Redis Cluster: redis://host:port,redis://host:port';

/** Where Redis is: one server, or some nodes of a Redis Cluster, which know the others. */
export type RedisPlace =
  | { readonly kind: 'server'; readonly url: string }
  | {
      readonly kind: 'cluster';
      readonly nodes: readonly { readonly host: string; readonly port: number }[];
      /** The same at every node. */
      readonly login: { readonly username?: string; readonly password?: string; readonly tls?: object };
    };

/** Reads `servers.redisUrl`, once it has passed the check of the configuration. */
export function redisPlace(text: string): RedisPlace {
  const urls = urlsOf(text).map((url) => new URL(url));
  const [first] = urls;
  if (first === undefined || urls.length === 1) return { kind: 'server', url: text };
  const { username, password, protocol } = first;
  return {
    kind: 'cluster',
    nodes: urls.map(({ hostname, port }) => ({
      host: hostname.replace(/^\[(.*)\]$/, '$1'),
      port: Number(port || DEFAULT_PORT),
    })),
    login: {
      ...(username === '' ? {} : { username: decodeURIComponent(username) }),
      ...(password === '' ? {} : { password: decodeURIComponent(password) }),
      ...(protocol === 'rediss:' ? { tls: {} } : {}),
    },
  };
}

/** What is wrong with `servers.redisUrl`, or null. */
export function redisUrlFault(text: string): string | null {
  const urls = urlsOf(text);
  if (!urls.every((url) => /^rediss?:\/\/./.test(url) && URL.canParse(url)))
    return `must look like ${REDIS_URL_FORM}`;
  if (urls.length === 1) return null;
  const parsed = urls.map((url) => new URL(url));
  if (parsed.some(({ pathname }) => !/^\/?0?$/.test(pathname)))
    return 'must not name a database number: a Redis Cluster has only one';
  const logins = new Set(
    parsed.map(({ protocol, username, password }) => `${protocol}${username}:${password}`),
  );
  return logins.size === 1 ? null : 'must have the same scheme, user and password for all nodes of a cluster';
}

const DEFAULT_PORT = 6_379;

/** A comma separates nodes only before another scheme: a password may hold one. */
function urlsOf(text: string): string[] {
  return text.split(/,\s*(?=[a-z]+:\/\/)/);
}
