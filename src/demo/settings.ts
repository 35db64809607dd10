import { randomBytes } from 'node:crypto';
import { loadConfig } from '../config.ts';
import { SETTINGS } from '../config-keys.ts';
import type { Config } from '../config-schema.ts';
import type { Stack } from '../stack/stack.ts';

/** The configuration of a run, for the demo itself and for its coordinator. */
export interface DemoSettings {
  readonly config: Config;
  /** What `tollgate serve` gets: no administrator's URL. */
  readonly environment: Readonly<Record<string, string>>;
  /** Password of the login roles where PostgreSQL is ours; null: somebody else's roles are left alone. */
  readonly rolePassword: string | null;
  /** Ends every name where servers are shared with others; else empty. */
  readonly tag: string;
}

const ADMIN_ONLY: ReadonlySet<string> = new Set(['servers.postgresAdminUrl', 'servers.amqpAdminUrl']);

/**
 * Defaults everywhere, and the addresses of the servers. On servers that were given, the coordinator logs in to PostgreSQL as
 * the administrator, because the passwords of its roles are not ours to set, and every name of the run gets a tag.
 */
export function settingsOf({ urls, started }: Pick<Stack, 'urls' | 'started'>): DemoSettings {
  const rolePassword = started.includes('postgres') ? randomBytes(16).toString('hex') : null;
  const tag = started.length === 4 ? '' : `-${randomBytes(3).toString('hex')}`;
  const flags: Record<string, string> = {
    ...postgresUrls(urls.postgresAdmin, rolePassword),
    'servers.postgresAdminUrl': urls.postgresAdmin,
    'servers.redisUrl': urls.redis,
    'servers.amqpUrl': urls.amqp,
    'servers.amqpAdminUrl': urls.amqpAdmin,
    'servers.mongoUrl': urls.mongo,
    'secrets.digestKey': randomBytes(32).toString('hex'),
    'fleet.keyPrefix': `tollgate${tag}`,
    'http.port': '0',
  };
  const ofServe = Object.entries(flags).filter(([path]) => !ADMIN_ONLY.has(path));
  return {
    config: loadConfig({ flags, env: {} }),
    environment: Object.fromEntries(ofServe.map(([path, value]) => [variableOf(path), value])),
    rolePassword,
    tag,
  };
}

function postgresUrls(admin: string, rolePassword: string | null): Record<string, string> {
  if (rolePassword === null)
    return {
      'servers.postgresUrl': admin,
      'servers.postgresSettlerUrl': admin,
      'servers.postgresMaintainerUrl': admin,
    };
  const dispatcher = new URL(admin);
  dispatcher.username = 'tollgate_dispatcher';
  dispatcher.password = rolePassword;
  return { 'servers.postgresUrl': dispatcher.href };
}

function variableOf(path: string): string {
  return SETTINGS.find((setting) => setting.path === path)?.envNames[0] ?? path;
}
