import { sign } from 'node:crypto';
import type { FleetMessage } from '../../src/contracts/fleet.ts';
import { FLEET_KEYS } from '../../src/contracts/names.ts';
import { helloBytes } from '../../src/contracts/signed-bytes.ts';
import type { Envelope, Expectation, Input } from './input.ts';
import { GENERIC, parsed } from './mutations.ts';
import type { FuzzDirectory, KeyedNode } from './people.ts';
import type { Random } from './random.ts';
import { weighted } from './weighted.ts';

const SESSION = 1_700_000_000_000;

/** A fleet message that a worker of `node` could say; hellos are signed. */
export function soundFleet(
  random: Random,
  node: KeyedNode,
  kind: FleetMessage['kind'],
  nowMs: number,
): FleetMessage {
  const message: FleetMessage = {
    v: 1,
    kind,
    node: node.id,
    session: SESSION,
    seq: random.int(1, 1_000_000),
    slots_total: 8,
    slots_in_use: random.int(0, 8),
    pools: random.pick([['small'], ['small', 'other']]),
    warm_models: random.pick([[], ['small'], ['elsewhere']]),
    config_version: 0,
    gpu: random.chance(0.5) ? { name: 'a card', vram_gb: 24 } : null,
    leases: Array.from({ length: random.int(0, 3) }, () => ({ job: random.uuidV7(nowMs), attempt: 1 })),
    signature: null,
  };
  return kind === 'hello' ? { ...message, signature: signatureOf(message, node) } : message;
}

function signatureOf(message: FleetMessage, { privateKey }: KeyedNode): string {
  return sign(null, helloBytes(message), privateKey).toString('base64');
}

interface Forged {
  readonly message: unknown;
  readonly envelope?: Envelope;
  readonly expects: Expectation;
}

interface FleetWorld {
  readonly node: KeyedNode;
  readonly other: KeyedNode;
}

const FLEET_FAULTS: Readonly<
  Record<
    string,
    {
      readonly weight: number;
      readonly make: (random: Random, hello: FleetMessage, at: FleetWorld) => Forged;
    }
  >
> = {
  'user_id of another': {
    weight: 4,
    make: (random, hello, { node, other }) => ({
      message: { ...hello, kind: random.pick(FLEET_KEYS) },
      envelope: {
        userId: random.pick([undefined, `n-${other.id}`, 'p-web', node.id, `n-${node.id} `, 'guest', '']),
      },
      expects: 'refused',
    }),
  },
  'node of another': {
    weight: 3,
    make: (random, hello, { other }) => ({
      message: { ...hello, node: other.id, kind: random.pick(FLEET_KEYS) },
      expects: 'refused',
    }),
  },
  'node that is not registered': {
    weight: 2,
    make: (random, hello) => {
      const ghost = random.pick(['ghost', 'constructor', 'n10']);
      return {
        message: { ...hello, node: ghost, kind: 'heartbeat' },
        envelope: { userId: `n-${ghost}` },
        expects: 'refused',
      };
    },
  },
  'node that is retired': {
    weight: 1,
    make: (random, hello) => ({
      message: { ...hello, node: 'n3', kind: random.pick(FLEET_KEYS) },
      envelope: { userId: 'n-n3' },
      expects: 'refused',
    }),
  },
  'hello altered under its signature': {
    weight: 1,
    make: (random, hello) => {
      const change = random.pick<Partial<FleetMessage>>([
        { session: hello.session + 1 },
        { slots_total: 4_096 },
        { pools: [...hello.pools, 'free'] },
        { pools: ['smallother'] },
      ]);
      return { message: { ...hello, ...change }, expects: 'refused' };
    },
  },
  'hello signed by another key': {
    weight: 1,
    make: (_, hello, { other }) => ({
      message: { ...hello, signature: signatureOf(hello, other) },
      expects: 'refused',
    }),
  },
  'hello without a signature': {
    weight: 1,
    make: (random, hello) => ({
      message: {
        ...hello,
        signature: random.pick([null, '', '????', 'AAAA', Buffer.alloc(64).toString('base64')]),
      },
      expects: 'refused',
    }),
  },
  'pools that it may not serve': {
    weight: 2,
    make: (random, hello) => ({
      message: {
        ...hello,
        kind: 'heartbeat',
        pools: random.pick([['free'], ['free', 'small', 'small'], ['nothing']]),
      },
      expects: 'accepted',
    }),
  },
};

const SIGNED_POOL = 16;
const GENERIC_SHARE = 0.7;
const pickGeneric = weighted(GENERIC);
const pickFault = weighted(FLEET_FAULTS);

/** Makes fleet inputs from a pool of messages that are signed once. */
export class FleetInputs {
  readonly #directory: FuzzDirectory;
  readonly #hellos: readonly { readonly node: KeyedNode; readonly message: FleetMessage }[];
  readonly #others: readonly { readonly node: KeyedNode; readonly message: FleetMessage }[];

  constructor(random: Random, directory: FuzzDirectory, nowMs: number) {
    this.#directory = directory;
    const alive = directory.keyed.filter(({ lifecycle }) => lifecycle !== 'retired');
    const pool = (kinds: readonly FleetMessage['kind'][]) =>
      Array.from({ length: SIGNED_POOL }, () => {
        const node = random.pick(alive);
        return { node, message: soundFleet(random, node, random.pick(kinds), nowMs) };
      });
    this.#hellos = pool(['hello']);
    this.#others = pool(['heartbeat', 'drain', 'bye']);
  }

  make(random: Random): Input {
    const isGeneric = random.chance(GENERIC_SHARE);
    // A sound hello costs a verification; a tenth of the generic ones are enough.
    const { node, message } = random.pick(isGeneric && random.chance(0.9) ? this.#others : this.#hellos);
    const text = JSON.stringify(message);
    const base = {
      kind: 'fleet',
      envelope: { userId: `n-${node.id}` },
      routingKey: message.kind,
      source: 'pool',
      original: text,
      code: null,
      isStrict: true,
    } as const;
    if (isGeneric) {
      const mutation = pickGeneric(random);
      const mutated = GENERIC[mutation]?.mutate(random, parsed(text), text);
      if (mutated === undefined) throw new Error(`no mutation ${mutation}`);
      return { ...base, mutation, body: mutated.body, expects: mutated.expects };
    }
    const mutation = pickFault(random);
    const other = random.pick(this.#directory.keyed.filter(({ id }) => id !== node.id));
    const forged = FLEET_FAULTS[mutation]?.make(random, message, { node, other });
    if (forged === undefined) throw new Error(`no forgery ${mutation}`);
    const { message: said, envelope = base.envelope, expects } = forged;
    return { ...base, mutation, body: Buffer.from(JSON.stringify(said)), envelope, expects };
  }
}
