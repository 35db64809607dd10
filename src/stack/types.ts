import type { Binary } from './binaries.ts';
import type { Keeper } from './keeper.ts';
import type { PortBlock } from './ports.ts';
import type { ServerPlan } from './server-process.ts';

/** Where the servers are; the empty string for one that was not asked for. Each carries an administrator's password. */
export interface StackUrls {
  /** Superuser, database `postgres`. */
  readonly postgresAdmin: string;
  readonly redis: string;
  /** Vhost `/`. */
  readonly amqp: string;
  /** Base of the management HTTP API. */
  readonly amqpAdmin: string;
  /** With the database `tollgate` in its path. */
  readonly mongo: string;
}

/** What a server needs to know to prepare itself. */
export interface Workplace {
  readonly keeper: Keeper;
  readonly ports: PortBlock;
  readonly binary: Binary;
  /** The server's own folder, mode 700. */
  readonly folder: string;
  /** Password of its administrator: letters and digits. */
  readonly secret: string;
}

/** How the server is run, and the URLs it will answer at. */
export interface Preparation {
  readonly plan: ServerPlan;
  readonly urls: Partial<StackUrls>;
}
