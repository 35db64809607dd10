import { EXCHANGE } from '../contracts/names.ts';

/** RabbitMQ's three permissions of a user in a vhost: regular expressions over the names of queues and exchanges. */
export interface Permissions {
  /** What it may declare and delete. */
  readonly configure: string;
  /** What it may publish to, and which queues it may bind. */
  readonly write: string;
  /** What it may consume from, and which exchanges it may bind a queue to. */
  readonly read: string;
}

/** Matches no name at all; an empty expression would match the server-named ones. */
const NOTHING = '^$';

function escaped(text: string): string {
  return text.replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`);
}

/**
 * What node `node` may do: read its two queues, write results, fleet messages and tokens. It declares nothing and reads no
 * exchange: a direct exchange checks no key, so whoever may read one can bind another's messages to a queue of its own.
 * Source: design [20].
 */
export function nodePermissions(node: string): Permissions {
  return {
    configure: NOTHING,
    write: `^(${EXCHANGE.results}|${EXCHANGE.fleet}|tokens)$`,
    read: String.raw`^node\.${escaped(node)}(\.control)?$`,
  };
}

/** What a publisher may do, by its broker user (`p-<name>`): write jobs, and declare and read its own reply queues. Source: design [20]. */
export function publisherPermissions(user: string): Permissions {
  const own = String.raw`^reply\.${escaped(user)}(\..+)?$`;
  return { configure: own, write: `^${EXCHANGE.jobs}$`, read: own };
}

/** What is left to a publisher that is cut off: its reply queues. */
export function cutOffPermissions(user: string): Permissions {
  return { ...publisherPermissions(user), write: NOTHING };
}

/** Single quotes for a POSIX shell. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", String.raw`'\''`)}'`;
}

/**
 * The lines that an operator types where no management API is given: they make `user` with `password` and set exactly its
 * permissions in `vhost`. The password goes in by standard input, so that no process list shows it.
 */
export function permissionLines(
  user: string,
  password: string,
  permissions: Permissions,
  vhost: string,
): string[] {
  const { configure, write, read } = permissions;
  return [
    String.raw`printf '%s\n' ${quoted(password)} | rabbitmqctl add_user ${quoted(user)}`,
    `rabbitmqctl set_permissions -p ${quoted(vhost)} ${[user, configure, write, read].map(quoted).join(' ')}`,
  ];
}

/** The vhost that an AMQP URL names; no path, or `/`, means the default vhost `/`. */
export function vhostOf(amqpUrl: string): string {
  const name = decodeURIComponent(new URL(amqpUrl).pathname.slice(1));
  return name === '' ? '/' : name;
}
