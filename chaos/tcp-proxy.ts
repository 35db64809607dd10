import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';

/** What a link does to the bytes that pass. Only one holds at a time; `heal` goes back to none. */
type Damage =
  | { readonly kind: 'none' }
  /** Each piece is this late, more or less by the jitter; order is kept. */
  | { readonly kind: 'latency'; readonly ms: number; readonly jitterMs: number }
  | { readonly kind: 'slow'; readonly bytesPerS: number }
  /** Each connection breaks once so many bytes have come from its server. */
  | { readonly kind: 'cut_after'; readonly bytes: number };

/** A piece that is held back, and what lets it go at once. */
type Held = Map<Socket, () => void>;

interface Pair {
  readonly client: Socket;
  readonly server: Socket;
  /** By the socket that it came from. */
  readonly held: Held;
  /** The first bytes of the client. */
  opening: Buffer;
  /** From the server since the damage began. */
  passed: number;
}

/** How much of what a client says first is remembered; an AMQP client's name stands in its second frame. */
const OPENING_BYTES = 2_048;

/**
 * Ends a connection with a reset; one that is being ended already is destroyed instead. Node cannot reset a socket during its
 * shutdown, and then never closes it: its process turns for ever in its own clean-up when it wants to exit (seen with Node 24.21).
 */
export function breakOff(socket: Socket): void {
  if (socket.writableEnded) socket.destroy();
  else socket.resetAndDestroy();
}

/** A TCP connection that can be damaged: it stands on a loopback port in front of a real server. */
export class TcpProxy {
  readonly #host: string;
  readonly #port: number;
  readonly #listener: Server;
  readonly #pairs = new Set<Pair>();
  #isCut = false;
  #isSwallowing = false;
  #damage: Damage = { kind: 'none' };

  private constructor(host: string, port: number) {
    this.#host = host;
    this.#port = port;
    this.#listener = createServer((client) => this.#accept(client));
  }

  /** Starts one in front of `host:port`, on a free port. */
  static async start(host: string, port: number): Promise<TcpProxy> {
    const proxy = new TcpProxy(host, port);
    proxy.#listener.listen(0, '127.0.0.1');
    await once(proxy.#listener, 'listening');
    return proxy;
  }

  get port(): number {
    const address = this.#listener.address();
    if (address === null || typeof address === 'string') throw new Error('the proxy is closed');
    return address.port;
  }

  /** Connections that are open now. */
  get connections(): number {
    return this.#pairs.size;
  }

  /** Pieces that a late or slow link holds at this moment. */
  get heldBack(): number {
    return [...this.#pairs].reduce((sum, { held }) => sum + held.size, 0);
  }

  /** Breaks every connection with a reset and refuses new ones until `heal`. */
  cut(): void {
    this.#isCut = true;
    this.cutOnly('');
  }

  /** Breaks only the connections whose client said `word` when it began, e.g. its name. */
  cutOnly(word: string): void {
    for (const { client, server, opening } of this.#pairs) {
      if (!opening.includes(word)) continue;
      breakOff(client);
      server.destroy();
    }
  }

  /** Nothing passes in either direction any more, and nobody is told, until `heal` or `cut`: a half-open connection. */
  freeze(): void {
    for (const { client, server } of this.#pairs) {
      client.pause();
      server.pause();
    }
  }

  /** As `freeze`, and new connections are accepted and answered by nobody: a black hole, until `heal`. */
  swallow(): void {
    this.#isSwallowing = true;
    this.freeze();
  }

  /** What servers send stays here until `heal`; what clients send still arrives. Only for clients that said `word` when they began. */
  holdAnswers(word = ''): void {
    for (const { server, opening } of this.#pairs) if (opening.includes(word)) server.pause();
  }

  /** Every piece is `ms` late, plus or minus `jitterMs`. */
  delay(ms: number, jitterMs: number): void {
    this.#damage = { kind: 'latency', ms, jitterMs };
  }

  /** So many bytes per second in each direction of each connection. */
  slowTo(bytesPerS: number): void {
    this.#damage = { kind: 'slow', bytesPerS };
  }

  /** Every connection, also each new one, breaks after so many bytes from its server. */
  cutAfter(bytes: number): void {
    this.#damage = { kind: 'cut_after', bytes };
    for (const pair of this.#pairs) pair.passed = 0;
  }

  heal(): void {
    this.#isCut = false;
    this.#isSwallowing = false;
    this.#damage = { kind: 'none' };
    for (const { client, server, held } of this.#pairs) {
      // First what is held back: nothing may overtake it.
      for (const letGo of held.values()) letGo();
      client.resume();
      server.resume();
    }
  }

  /** Sends `bytes` to every client as if the server had. */
  inject(bytes: Buffer): void {
    for (const { client } of this.#pairs) client.write(bytes);
  }

  close(): void {
    this.cutOnly('');
    this.#listener.close();
  }

  #accept(client: Socket): void {
    if (this.#isCut) {
      client.destroy();
      return;
    }
    const server = connect(this.#port, this.#host);
    const pair: Pair = { client, server, held: new Map(), opening: Buffer.alloc(0), passed: 0 };
    this.#pairs.add(pair);
    const end = () => {
      this.#pairs.delete(pair);
      client.destroy();
      server.destroy();
    };
    for (const socket of [client, server]) socket.on('error', end).on('close', end);
    if (this.#isSwallowing) for (const socket of [client, server]) socket.pause();
    client.on('data', (bytes) => {
      if (pair.opening.length < OPENING_BYTES) pair.opening = Buffer.concat([pair.opening, bytes]);
      this.#pass(bytes, client, server, pair.held);
    });
    server.on('data', (bytes) => {
      pair.passed += bytes.length;
      this.#pass(bytes, server, client, pair.held);
      if (this.#damage.kind === 'cut_after' && pair.passed > this.#damage.bytes) {
        breakOff(client);
        server.destroy();
      }
    });
  }

  /** While a piece is held back nothing more is read behind it, so that order and backpressure stay. */
  #pass(bytes: Buffer, from: Socket, to: Socket, held: Held): void {
    const delayMs = this.#delayOf(bytes.length);
    if (delayMs === 0) {
      to.write(bytes);
      return;
    }
    from.pause();
    const letGo = () => {
      clearTimeout(timer);
      held.delete(from);
      to.write(bytes);
      from.resume();
    };
    const timer = setTimeout(letGo, delayMs);
    held.set(from, letGo);
  }

  #delayOf(bytes: number): number {
    const damage = this.#damage;
    if (damage.kind === 'latency') return Math.max(1, damage.ms + (2 * Math.random() - 1) * damage.jitterMs);
    return damage.kind === 'slow' ? (1_000 * bytes) / damage.bytesPerS : 0;
  }
}
