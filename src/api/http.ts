import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Config } from '../config-schema.ts';
import { CODES, type Code, invariant } from '../errors.ts';
import type { Log, Service } from '../ops/types.ts';

/** What a path answers. `body` is sent as it is, or as JSON when it is no text. */
export interface HttpAnswer {
  readonly status: number;
  readonly body: string | object;
  readonly contentType?: string;
}

/**
 * Path → what answers a GET of it. `query` is the part behind `?`. One segment of a path may be `*`: any text but a slash, which is
 * handed over as it came.
 */
export type HttpRoutes = Readonly<
  Record<string, (query: URLSearchParams, segment: string) => HttpAnswer | Promise<HttpAnswer>>
>;

/** How long an idle connection may stay open, in milliseconds: longer than any scrape interval gains nothing. */
const KEEP_ALIVE_MS = 5_000;

function fault(status: number, code: Code): HttpAnswer {
  return { status, body: { code, message: CODES[code].text } };
}

/**
 * The daemon's own small HTTP server: GET and HEAD of fixed paths, no bodies, bounded heads, times and connections. It
 * knows no framework, so that health and metrics answer as long as the process turns.
 */
export class HttpServer implements Service {
  readonly #config: Config['http'];
  readonly #log: Log;
  readonly #routes: HttpRoutes;
  readonly #server: Server;
  #starting: Promise<void> | null = null;

  constructor(config: Config['http'], log: Log, routes: HttpRoutes) {
    this.#config = config;
    this.#log = log;
    this.#routes = routes;
    this.#server = createServer({
      maxHeaderSize: config.headerBytesMax,
      headersTimeout: config.requestMsMax,
      requestTimeout: config.requestMsMax,
      keepAliveTimeout: KEEP_ALIVE_MS,
      connectionsCheckingInterval: Math.min(config.requestMsMax, 1_000),
    });
    this.#server.maxConnections = config.connectionsMax;
    this.#server.on('request', (request, response) => void this.#answer(request, response));
    this.#server.on('clientError', (error, socket) => {
      const isTooLong = 'code' in error && error.code === 'HPE_HEADER_OVERFLOW';
      const line = isTooLong ? '431 Request Header Fields Too Large' : '400 Bad Request';
      if (socket.writable) socket.end(`HTTP/1.1 ${line}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`);
    });
  }

  /** Begins to listen. Rejects if the address is taken. */
  start(): Promise<void> {
    return (this.#starting ??= this.#listen());
  }

  /** Takes no more connections, lets running answers end, closes idle connections. Idempotent. */
  async stop(): Promise<void> {
    await this.#starting?.catch(() => undefined);
    if (!this.#server.listening) return;
    const { promise: closed, resolve } = Promise.withResolvers<void>();
    this.#server.close(() => resolve());
    this.#server.closeIdleConnections();
    const hard = setTimeout(() => this.#server.closeAllConnections(), this.#config.requestMsMax);
    await closed;
    clearTimeout(hard);
  }

  /** `http://host:port` with the port that was really taken; only after `start`. */
  get url(): string {
    const bound = this.#server.address();
    invariant(typeof bound === 'object' && bound !== null, 'the HTTP server does not listen');
    const { address, port, family } = bound;
    return `http://${family === 'IPv6' ? `[${address}]` : address}:${port}`;
  }

  async #listen(): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#server.once('error', reject);
    this.#server.listen(this.#config.port, this.#config.host, () => resolve());
    await promise;
    this.#server.off('error', reject);
    this.#server.on('error', (error) => this.#log.error({ error }, 'http server'));
    this.#log.info({ url: this.url }, 'listening');
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    response.setTimeout(this.#config.requestMsMax, () => response.destroy());
    const answer = await this.#route(request).catch((error: unknown) => {
      this.#log.error({ error, path: request.url }, 'a request failed');
      return fault(500, 'TG_INTERNAL_ERROR');
    });
    const isText = typeof answer.body === 'string';
    const body = typeof answer.body === 'string' ? answer.body : `${JSON.stringify(answer.body)}\n`;
    response.writeHead(answer.status, {
      'content-type': answer.contentType ?? (isText ? 'text/plain; charset=utf-8' : 'application/json'),
      'content-length': Buffer.byteLength(body),
      'cache-control': 'no-store',
      ...(answer.status === 405 ? { allow: 'GET, HEAD' } : {}),
    });
    response.end(request.method === 'HEAD' ? undefined : body);
    // A body that nobody asked for is not read.
    request.resume();
  }

  async #route(request: IncomingMessage): Promise<HttpAnswer> {
    const [path = '', query = ''] = (request.url ?? '').split('?', 2);
    const found = this.#find(path);
    if (found === null) return fault(404, 'TG_NOT_FOUND');
    if (request.method !== 'GET' && request.method !== 'HEAD') return fault(405, 'TG_HTTP_METHOD');
    return found.handler(new URLSearchParams(query), found.segment);
  }

  #find(path: string): { handler: HttpRoutes[string]; segment: string } | null {
    for (const [route, handler] of Object.entries(this.#routes)) {
      if (route === path) return { handler, segment: '' };
      const [head = '', tail] = route.split('*', 2);
      if (tail === undefined || !path.startsWith(head) || !path.endsWith(tail)) continue;
      const segment = path.slice(head.length, path.length - tail.length);
      if (segment !== '' && !segment.includes('/')) return { handler, segment };
    }
    return null;
  }
}
