import type { ResultMessage } from '../../src/contracts/result.ts';
import { resultDigest } from '../../src/contracts/signed-bytes.ts';
import { signResults, type UnsignedResult } from '../../src/workers/agent/result.ts';
import type { Envelope, Expectation, Input } from './input.ts';
import { GENERIC, parsed } from './mutations.ts';
import type { FuzzDirectory, KeyedNode } from './people.ts';
import type { Random } from './random.ts';
import { weighted } from './weighted.ts';

const SESSION = 1_700_000_000_000;
const TEXTS = ['The sea is wide.', '海は広い 💧', '', 'a\ufffdb', '\0', 'x'.repeat(2_000), '"\\"'];

/** A result that a worker of `node` could have signed. */
export function unsignedResult(random: Random, node: string, nowMs: number): UnsignedResult {
  const isCompleted = random.chance(0.8);
  const text = random.pick(TEXTS);
  const count = random.int(0, 4);
  return {
    v: 1,
    job: random.uuidV7(nowMs),
    attempt: random.int(1, 3),
    node,
    session: SESSION,
    model_version: 7,
    status: isCompleted ? 'completed' : 'failed',
    output: isCompleted ? { text, finish_reason: 'stop' } : null,
    usage: { input_tokens: random.int(0, 500), output_tokens: random.int(0, 500) },
    timing: { queued_ms: 1, first_token_ms: random.chance(0.5) ? 20 : null, total_ms: random.int(1, 10_000) },
    tokens: random.chance(0.5)
      ? {
          ends: Array.from({ length: count }, (_, i) => i),
          at_ms: Array.from({ length: count }, (_, i) => i * 10),
        }
      : null,
    gpu: random.chance(0.3) ? { name: 'a card', vram_gb: 24 } : null,
    evaluation: random.chance(0.3) ? { low_confidence: false, moderation: null } : null,
    error: isCompleted ? null : { code: 'TG_WORKER_ERROR', message: 'the model server said no' },
  };
}

/** What forgers have to work with. */
export interface ResultWorld {
  readonly node: KeyedNode;
  /** Another node with a key of its own. */
  readonly other: KeyedNode;
  /** Another good result of the same node. */
  readonly another: ResultMessage;
}

interface Forged {
  readonly result: unknown;
  readonly envelope?: Envelope;
  readonly expects: Expectation;
  readonly isStrict?: boolean;
}

/** What the good result means to say, without its proof. */
function claimOf({ digest: _digest, flush: _flush, ...claim }: ResultMessage): UnsignedResult {
  return claim;
}

function signedBy(claim: UnsignedResult, node: KeyedNode): ResultMessage {
  const [signed] = signResults([claim], node.privateKey);
  if (signed === undefined) throw new Error('nothing was signed');
  return signed;
}

/** Another claim of the same form: more tokens, another text, or a completed one out of a failed. */
function altered(random: Random, good: ResultMessage): ResultMessage {
  const { usage } = good;
  return random.pick<() => ResultMessage>([
    () => ({ ...good, usage: { ...usage, output_tokens: usage.output_tokens + random.int(1, 1_000) } }),
    () => ({ ...good, usage: { ...usage, input_tokens: usage.input_tokens + 1 } }),
    () => ({ ...good, timing: { ...good.timing, total_ms: good.timing.total_ms + 1 } }),
    () => ({ ...good, attempt: good.attempt + 1 }),
    () => ({ ...good, session: good.session + 1 }),
    () => ({ ...good, model_version: good.model_version + 1 }),
    () => ({ ...good, job: random.uuidV7(SESSION) }),
    () =>
      good.status === 'completed'
        ? { ...good, output: { text: `${good.output?.text ?? ''}.`, finish_reason: 'stop' as const } }
        : {
            ...good,
            status: 'completed' as const,
            output: { text: 'done', finish_reason: 'stop' as const },
            error: null,
          },
  ])();
}

function flipped(random: Random, hex: string): string {
  const at = random.int(0, hex.length - 1);
  const digit = (Number.parseInt(hex[at] ?? '0', 16) ^ (1 << random.int(0, 3))).toString(16);
  return hex.slice(0, at) + digit + hex.slice(at + 1);
}

const RESULT_FAULTS: Readonly<
  Record<
    string,
    {
      readonly weight: number;
      readonly make: (random: Random, good: ResultMessage, at: ResultWorld) => Forged;
    }
  >
> = {
  'user_id of another': {
    weight: 3,
    make: (random, result, { node, other }) => ({
      result,
      envelope: {
        userId: random.pick([
          undefined,
          `n-${other.id}`,
          'p-web',
          node.id,
          `N-${node.id}`,
          `n-${node.id} `,
          '',
          'guest',
        ]),
      },
      expects: 'refused',
    }),
  },
  'node of another': {
    weight: 2,
    make: (_, good, { other }) => ({ result: { ...good, node: other.id }, expects: 'refused' }),
  },
  'node that is not registered': {
    weight: 1,
    make: (random, good, { node }) => {
      const ghost = random.pick(['ghost', 'constructor', 'n10']);
      return {
        result: signedBy({ ...claimOf(good), node: ghost }, node),
        envelope: { userId: `n-${ghost}` },
        expects: 'refused',
      };
    },
  },
  'digest flipped': {
    weight: 3,
    make: (random, good) => {
      const digest = flipped(random, good.digest);
      const digests = random.chance(0.5) ? [digest] : good.flush.digests;
      return { result: { ...good, digest, flush: { ...good.flush, digests } }, expects: 'refused' };
    },
  },
  'altered under its digest': {
    weight: 5,
    make: (random, good) => ({ result: altered(random, good), expects: 'refused' }),
  },
  'altered with a digest of its own': {
    weight: 2,
    make: (random, good) => {
      const claim = altered(random, good);
      const digest = resultDigest(claim).toString('hex');
      const isListed = random.chance(0.5);
      const flush = isListed ? { ...good.flush, digests: [digest] } : good.flush;
      return { result: { ...claim, digest, flush }, expects: 'refused', isStrict: true };
    },
  },
  'another text of the same bytes': {
    weight: 1,
    make: (random, good, { node }) => {
      const one = signedBy(
        {
          ...claimOf(good),
          status: 'completed',
          output: { text: 'a\ufffdb', finish_reason: 'stop' },
          error: null,
        },
        node,
      );
      const text = `a${random.pick(['\ud800', '\udfff'])}b`;
      return { result: { ...one, output: { text, finish_reason: 'stop' } }, expects: 'refused' };
    },
  },
  'signed by another key': {
    weight: 1,
    make: (_, good, { other }) => ({
      result: signedBy(claimOf(good), other),
      expects: 'refused',
      isStrict: true,
    }),
  },
  'signature broken': {
    weight: 2,
    make: (random, good, { another }) => {
      const bytes = Buffer.from(good.flush.signature, 'base64');
      const at = random.int(0, bytes.length - 1);
      const signature = random.pick<() => string>([
        () => '',
        () => '????',
        () => another.flush.signature,
        () => bytes.subarray(0, 63).toString('base64'),
        () => Buffer.concat([bytes, Buffer.of(0)]).toString('base64'),
        () => bytes.toString('hex').slice(0, 128),
        () => bytes.fill((bytes[at] ?? 0) ^ (1 << random.int(0, 7)), at, at + 1).toString('base64'),
        () => Buffer.alloc(64).toString('base64'),
      ])();
      return { result: { ...good, flush: { ...good.flush, signature } }, expects: 'refused', isStrict: true };
    },
  },
  'flush of another': {
    weight: 2,
    make: (random, good, { another }) => {
      const isJoined = random.chance(0.5);
      const digests = isJoined ? [...another.flush.digests, good.digest].slice(-16) : another.flush.digests;
      return {
        result: { ...good, flush: { ...another.flush, digests } },
        expects: 'refused',
        isStrict: true,
      };
    },
  },
  'a claim that contradicts itself': {
    weight: 2,
    make: (random, good, { node }) => {
      const claim = claimOf(good);
      const isCompleted = claim.status === 'completed';
      const error = { code: 'x', message: 'y' };
      const output = { text: 'x', finish_reason: 'stop' as const };
      const contradiction: Partial<UnsignedResult> = random.pick<Partial<UnsignedResult>>([
        isCompleted ? { output: null } : { output },
        isCompleted ? { error } : { error: null },
        { status: isCompleted ? 'failed' : 'completed' },
        { tokens: { ends: [1, 2], at_ms: [1] } },
      ]);
      return { result: signedBy({ ...claim, ...contradiction }, node), expects: 'refused' };
    },
  },
  'signed lie of the node itself': {
    weight: 1,
    make: (random, good, { node }) => ({
      result: signedBy(claimOf(altered(random, good)), node),
      expects: 'accepted',
      isStrict: true,
    }),
  },
  'signed and strict': { weight: 1, make: (_, result) => ({ result, expects: 'accepted', isStrict: true }) },
};

/** Signed once: a signature costs more than all else of an input. */
const SIGNED_POOL = 64;

/** Makes result inputs from a pool of good results that are signed once. */
export class ResultInputs {
  readonly #directory: FuzzDirectory;
  readonly #pool: readonly {
    readonly good: ResultMessage;
    readonly text: string;
    readonly node: KeyedNode;
  }[];

  constructor(random: Random, directory: FuzzDirectory, nowMs: number) {
    this.#directory = directory;
    const [sampled, ...others] = directory.keyed;
    this.#pool = Array.from({ length: SIGNED_POOL }, (_, i) => {
      // Most come from the node whose signatures are only sampled: the others cost a verification each.
      const node = (i % 16 < others.length ? others[i % 16] : sampled) ?? never();
      const good = signedBy(unsignedResult(random, node.id, nowMs), node);
      return { good, node, text: JSON.stringify(good) };
    });
  }

  make(random: Random): Input {
    const { good, node, text } = random.pick(this.#pool);
    return spoiltResult(random, good, text, {
      node,
      other: random.pick(this.#directory.keyed.filter(({ id }) => id !== node.id)),
      another: random.pick(this.#pool.filter((one) => one.good !== good && one.node === node)).good,
    });
  }
}

function never(): never {
  throw new Error('there is no node');
}

const pickGeneric = weighted(GENERIC);
const pickFault = weighted(RESULT_FAULTS);
const GENERIC_SHARE = 0.75;

/** One input made from a good result; `text` is that result as JSON. */
export function spoiltResult(random: Random, good: ResultMessage, text: string, at: ResultWorld): Input {
  const base = {
    kind: 'result',
    envelope: { userId: `n-${good.node}`, messageId: `${good.job}.${good.attempt}` },
    routingKey: 'result',
    source: 'pool',
    original: text,
    code: null,
  } as const;
  if (random.chance(GENERIC_SHARE)) {
    const mutation = pickGeneric(random);
    const mutated = GENERIC[mutation]?.mutate(random, parsed(text), text);
    if (mutated === undefined) throw new Error(`no mutation ${mutation}`);
    return { ...base, mutation, body: mutated.body, expects: mutated.expects, isStrict: false };
  }
  const mutation = pickFault(random);
  const forged = RESULT_FAULTS[mutation]?.make(random, good, at);
  if (forged === undefined) throw new Error(`no forgery ${mutation}`);
  const { result, envelope = base.envelope, expects, isStrict = false } = forged;
  return { ...base, mutation, body: Buffer.from(JSON.stringify(result)), envelope, expects, isStrict };
}
