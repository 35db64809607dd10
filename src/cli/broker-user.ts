import { randomBytes } from 'node:crypto';
import type { Management } from '../broker/management.ts';
import { type Permissions, permissionLines, vhostOf } from '../broker/permissions.ts';

/** A RabbitMQ user as its owner needs it. */
export interface BrokerUser {
  readonly user: string;
  /** To log in with, password included; null if the user kept the password it had. */
  readonly url: string | null;
  /** The lines that make the user, to be typed first, where no management API is given; else empty. */
  readonly rabbitmqctl: readonly string[];
}

/** How a broker user is wanted. */
export interface BrokerUserRequest {
  readonly user: string;
  readonly permissions: Permissions;
  /** Replace the password of a user that exists. */
  readonly isNewPassword: boolean;
  /** The coordinators' URL: host, port and vhost are taken from it. */
  readonly amqpUrl: string;
}

/** 24 bytes are out of reach of guessing; hexadecimal needs no escaping in a URL or a shell. */
const PASSWORD_BYTES = 24;

/**
 * Makes a RabbitMQ user with exactly its permissions, or tells how to. A user that exists keeps its password unless a new one
 * is asked for, and its permissions are set again. Throws StoreError when the management API is away.
 */
export async function brokerUser(
  management: Management | null,
  request: BrokerUserRequest,
): Promise<BrokerUser> {
  const { user, permissions, isNewPassword, amqpUrl } = request;
  const password = randomBytes(PASSWORD_BYTES).toString('hex');
  const url = urlFor(amqpUrl, user, password);
  if (management === null) {
    const rabbitmqctl = permissionLines(user, password, permissions, vhostOf(amqpUrl));
    return { user, url, rabbitmqctl };
  }
  const keepsPassword = !isNewPassword && (await management.hasUser(user));
  if (keepsPassword) await management.setPermissions(user, permissions);
  else await management.createUser(user, password, permissions);
  return { user, url: keepsPassword ? null : url, rabbitmqctl: [] };
}

/** The same broker and vhost, logged in as somebody else. */
function urlFor(amqpUrl: string, user: string, password: string): string {
  const url = new URL(amqpUrl);
  url.username = user;
  url.password = password;
  return url.toString();
}

/** What to tell the operator about the user, in lines. */
export function brokerUserLines({ user, url, rabbitmqctl }: BrokerUser): string[] {
  if (url === null) return [`RabbitMQ user ${user} keeps its password (--new-password gives it another)`];
  const first =
    rabbitmqctl.length === 0
      ? []
      : [
          'type on the broker, because TOLLGATE_AMQP_ADMIN_URL is not set:',
          ...rabbitmqctl.map((line) => `  ${line}`),
        ];
  return [...first, `log in to RabbitMQ with ${url}`, '(the password is shown this once)'];
}
