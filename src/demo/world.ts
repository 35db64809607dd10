import type { ModelLimits, Prices } from '../network/models.ts';

/**
 * Who and what there is in the demo: accounts and those who may spend for them, models with their prices, nodes. Everything
 * is made through the same functions as the operator's commands, by `provision.ts`.
 */

/** Who pays. `namespaces` are full names. */
export interface DemoAccount {
  readonly name: string;
  readonly namespaces: readonly string[];
}

/** Who sends, and for which accounts. */
export interface DemoPublisher {
  readonly name: string;
  readonly accounts: readonly string[];
}

/** A model as it is registered. */
export type DemoModel = { readonly name: string } & Prices & ModelLimits;

/** A node and what runs on it. */
export interface DemoNode {
  readonly id: string;
  readonly owner: string;
  readonly slots: number;
  readonly models: readonly string[];
  readonly lifecycle: 'probation' | 'active';
}

/** All of it. */
export interface World {
  readonly accounts: readonly DemoAccount[];
  /** The one that has just enough for its small jobs, and never for a large one; `poorPublisher` sends for it. */
  readonly poor: DemoAccount;
  readonly poorPublisher: string;
  readonly publishers: readonly DemoPublisher[];
  /** A RabbitMQ user that may publish jobs and that Tollgate knows nothing of. */
  readonly stranger: string;
  /** What most jobs ask for. */
  readonly small: DemoModel;
  readonly large: DemoModel;
  /** In the price list, and no node has it: its jobs wait until their time is over. */
  readonly orphan: DemoModel;
  /** A node has it and its model server doesn't: every attempt fails. */
  readonly broken: DemoModel;
  /** Without a price a model cannot be used. */
  readonly unpriced: DemoModel;
  /** Name of a model that nobody registered. */
  readonly unheardOf: string;
  readonly nodes: readonly DemoNode[];
}

/** 1 credit per 1,000,000 tokens, in micro-credits. */
const CREDIT = 1_000_000n;

const LIMITS: ModelLimits = { inputTokensMax: 1_000_000, outputTokensMax: 100_000, timeoutMsMax: 120_000 };

/** Slots of each worker. */
const SLOTS = 8;

function modelOf(name: string, inputCredits: bigint, outputCredits: bigint): DemoModel {
  return {
    name,
    inputPriceMicro: inputCredits * CREDIT,
    outputPriceMicro: outputCredits * CREDIT,
    ...LIMITS,
  };
}

/** The demo's world. `tag` ends every name, so that several runs can share servers: `-3f2a`, or nothing. */
export function worldOf(tag = ''): World {
  const name = (base: string) => `${base}${tag}`;
  const account = (base: string, ...namespaces: string[]): DemoAccount => ({
    name: name(base),
    namespaces: namespaces.map((namespace) => `${name(base)}/${namespace}`),
  });
  const [acme, globex, initech] = [
    account('acme', 'prod', 'dev'),
    account('globex', 'prod'),
    account('initech', 'prod'),
  ];
  const poor = account('pennywise', 'prod');
  const small = modelOf(name('ngram-small'), 200n, 600n);
  const large = modelOf(name('ngram-large'), 1_000n, 3_000n);
  const broken = modelOf(name('ngram-broken'), 200n, 600n);
  const unpriced: DemoModel = {
    ...small,
    name: name('ngram-unpriced'),
    inputPriceMicro: null,
    outputPriceMicro: null,
  };
  const node = (
    n: number,
    models: readonly DemoModel[],
    lifecycle: DemoNode['lifecycle'] = 'active',
  ): DemoNode => ({
    id: name(`node-${n}`),
    owner: name(n <= 4 ? 'owner-east' : 'owner-west'),
    slots: SLOTS,
    models: models.map((model) => model.name),
    lifecycle,
  });
  return {
    accounts: [acme, globex, initech, poor],
    poor,
    poorPublisher: name('penny-app'),
    publishers: [
      { name: name('acme-web'), accounts: [acme.name] },
      { name: name('acme-batch'), accounts: [acme.name] },
      // A service that sends for two accounts.
      { name: name('bureau'), accounts: [globex.name, initech.name] },
      { name: name('penny-app'), accounts: [poor.name] },
    ],
    stranger: name('stranger'),
    small,
    large,
    orphan: modelOf(name('ngram-orphan'), 200n, 600n),
    broken,
    unpriced,
    unheardOf: name('ngram-unheard-of'),
    // Eight machines of two owners. The last is new: every signature of its results is checked before it is paid for.
    nodes: [
      node(1, [small, unpriced, broken]),
      node(2, [small, unpriced, broken]),
      node(3, [small]),
      node(4, [small]),
      node(5, [small]),
      node(6, [large]),
      node(7, [large]),
      node(8, [large], 'probation'),
    ],
  };
}

/** The registered models. */
export function modelsOf({ small, large, orphan, broken, unpriced }: World): readonly DemoModel[] {
  return [small, large, orphan, broken, unpriced];
}

/**
 * What a job with these limits sets aside, in micro-credits, rounded up once: the generator's own arithmetic, to be compared
 * with the ledger's. Throws for a model without a price.
 */
export function lockMicro(model: DemoModel, inputTokensMax: number, outputTokensMax: number): bigint {
  const { inputPriceMicro, outputPriceMicro } = model;
  if (inputPriceMicro === null || outputPriceMicro === null)
    throw new RangeError(`${model.name} has no price`);
  const perMillion = BigInt(inputTokensMax) * inputPriceMicro + BigInt(outputTokensMax) * outputPriceMicro;
  return (perMillion + 999_999n) / 1_000_000n;
}
