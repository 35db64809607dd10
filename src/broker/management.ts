import { StoreError, TollgateError } from '../errors.ts';
import { textOf } from './amqp-errors.ts';
import type { Permissions } from './permissions.ts';

/** Where the management API is and how long one request may take. */
export interface ManagementOptions {
  /** `http://user:password@host:port` of an administrator. */
  readonly url: string;
  readonly vhost: string;
  readonly requestMsMax: number;
  /** Queues in one page of a listing. Default 500, which is also the most that the broker gives. */
  readonly pageSize?: number;
}

/** One queue, as the broker's statistics last saw it: they lag by up to 5 s. */
export interface QueueState {
  readonly name: string;
  readonly ready: number;
  readonly unacknowledged: number;
  readonly consumers: number;
}

const PAGE_SIZE_MAX = 500;

/**
 * RabbitMQ's HTTP API, for operators' commands and tests; the hot path never calls it. Every call rejects with StoreError
 * when the API is away and with `TG_STORE_REJECTED` when it says no; all may be repeated.
 */
export class Management {
  readonly #options: ManagementOptions;
  readonly #origin: string;
  readonly #authorization: string;

  constructor(options: ManagementOptions) {
    const { origin, username, password } = new URL(options.url);
    const credentials = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
    this.#options = options;
    this.#origin = origin;
    this.#authorization = `Basic ${Buffer.from(credentials).toString('base64')}`;
  }

  /** Resolves with the broker's version when the API answers, the credentials are good and the vhost exists. */
  async ping(): Promise<string> {
    await this.#call('GET', `/vhosts/${this.#vhost}`);
    const overview = record(await this.#call('GET', '/overview'));
    return String(overview['rabbitmq_version']);
  }

  /** Makes `user` without any management right and sets its permissions in the vhost; an existing one gets the new password. */
  async createUser(user: string, password: string, permissions: Permissions): Promise<void> {
    await this.#call('PUT', `/users/${encodeURIComponent(user)}`, { password, tags: '' });
    await this.setPermissions(user, permissions);
  }

  /** Sets what `user` may do in the vhost, replacing what it could before. */
  async setPermissions(user: string, permissions: Permissions): Promise<void> {
    await this.#call('PUT', `/permissions/${this.#vhost}/${encodeURIComponent(user)}`, { ...permissions });
  }

  /** True if the broker knows `user`. */
  async hasUser(user: string): Promise<boolean> {
    return (await this.#call('GET', `/users/${encodeURIComponent(user)}`)) !== null;
  }

  /** Removes `user`; its open connections stay, see `closeConnections`. Does nothing if there is no such user. */
  async deleteUser(user: string): Promise<void> {
    await this.#call('DELETE', `/users/${encodeURIComponent(user)}`);
  }

  /** Closes every connection of `user`, on all vhosts. */
  async closeConnections(user: string): Promise<void> {
    await this.#call('DELETE', `/connections/username/${encodeURIComponent(user)}`);
  }

  /** The queues of the vhost, in pages; `pattern` is a regular expression over their names. */
  async *queues(pattern = ''): AsyncGenerator<QueueState> {
    const columns = 'name,messages_ready,messages_unacknowledged,consumers';
    const filter = pattern === '' ? '' : `&use_regex=true&name=${encodeURIComponent(pattern)}`;
    let pageCount = 1;
    for (let page = 1; page <= pageCount; page++) {
      const query = `?page=${page}&page_size=${this.#options.pageSize ?? PAGE_SIZE_MAX}&columns=${columns}${filter}`;
      const answer = record(await this.#call('GET', `/queues/${this.#vhost}${query}`));
      pageCount = count(answer['page_count']);
      const items: unknown = answer['items'];
      if (Array.isArray(items)) yield* items.map(queueState);
    }
  }

  get #vhost(): string {
    return encodeURIComponent(this.#options.vhost);
  }

  /** The parsed answer, or null for one without a body and for a 404 on a single thing. */
  async #call(method: 'GET' | 'PUT' | 'DELETE', path: string, body?: object): Promise<unknown> {
    const what = `${method} /api${path.split('?')[0]}`;
    const headers = { authorization: this.#authorization, 'content-type': 'application/json' };
    const request =
      body === undefined ? { method, headers } : { method, headers, body: JSON.stringify(body) };
    const signal = AbortSignal.timeout(this.#options.requestMsMax);
    let status: number;
    let text: string;
    try {
      const response = await fetch(`${this.#origin}/api${path}`, { ...request, signal });
      status = response.status;
      text = await response.text();
    } catch (error) {
      throw new StoreError('rabbitmq', `${what}: ${textOf(error)}`, { cause: error });
    }
    if (status === 404 && path.startsWith('/users/')) return null;
    if (status >= 500) throw new StoreError('rabbitmq', `${what}: ${status}`);
    if (status >= 400) throw new TollgateError('TG_STORE_REJECTED', `rabbitmq: ${what}: ${status} ${text}`);
    return text === '' ? null : JSON.parse(text);
  }
}

function record(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? { ...value } : {};
}

/** A queue that is just coming up has no figures yet. */
function count(value: unknown): number {
  return typeof value === 'number' ? value : 0;
}

function queueState(item: unknown): QueueState {
  const { name, messages_ready, messages_unacknowledged, consumers } = record(item);
  return {
    name: String(name),
    ready: count(messages_ready),
    unacknowledged: count(messages_unacknowledged),
    consumers: count(consumers),
  };
}
