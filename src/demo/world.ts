import type { Prices, ModelLimits } from '../network/models.ts';

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

/** The account that has just enough for its small jobs, and never for a large one. */
export const PENNY = 'pennywise';

export const ACCOUNTS: readonly DemoAccount[] = [
  { name: 'acme', namespaces: ['acme/prod', 'acme/dev'] },
  { name: 'globex', namespaces: ['globex/prod'] },
  { name: 'initech', namespaces: ['initech/prod'] },
  { name: PENNY, namespaces: [`${PENNY}/prod`] },
];

/** `bureau` is a service that sends for two accounts; every account has a sender. */
export const PUBLISHERS: readonly DemoPublisher[] = [
  { name: 'acme-web', accounts: ['acme'] },
  { name: 'acme-batch', accounts: ['acme'] },
  { name: 'bureau', accounts: ['globex', 'initech'] },
  { name: 'penny-app', accounts: [PENNY] },
];

/** A RabbitMQ user that may publish jobs and that Tollgate knows nothing of. */
export const STRANGER = 'stranger';

/** 1 credit per 1,000,000 tokens, in micro-credits. */
const CREDIT = 1_000_000n;

const LIMITS: ModelLimits = { inputTokensMax: 1_000_000, outputTokensMax: 100_000, timeoutMsMax: 120_000 };

function model(name: string, inputCredits: bigint, outputCredits: bigint): DemoModel {
  return {
    name,
    inputPriceMicro: inputCredits * CREDIT,
    outputPriceMicro: outputCredits * CREDIT,
    ...LIMITS,
  };
}

/** What most jobs ask for. */
export const SMALL = model('ngram-small', 200n, 600n);
export const LARGE = model('ngram-large', 1_000n, 3_000n);
/** In the price list, and no node has it: its jobs wait until their time is over. */
export const ORPHAN = model('ngram-orphan', 200n, 600n);
/** A node has it and its model server doesn't: every attempt fails. */
export const BROKEN = model('ngram-broken', 200n, 600n);
/** Without a price a model cannot be used. */
export const UNPRICED: DemoModel = {
  name: 'ngram-unpriced',
  inputPriceMicro: null,
  outputPriceMicro: null,
  ...LIMITS,
};

export const MODELS: readonly DemoModel[] = [SMALL, LARGE, ORPHAN, BROKEN, UNPRICED];

/** Slots of each worker. */
const SLOTS = 8;

function node(
  n: number,
  models: readonly DemoModel[],
  lifecycle: DemoNode['lifecycle'] = 'active',
): DemoNode {
  return {
    id: `node-${n}`,
    owner: n <= 4 ? 'owner-east' : 'owner-west',
    slots: SLOTS,
    models: models.map(({ name }) => name),
    lifecycle,
  };
}

/** Eight machines of two owners; the last one is new, so every signature of its results is checked before it is paid for. */
export const NODES: readonly DemoNode[] = [
  node(1, [SMALL, UNPRICED, BROKEN]),
  node(2, [SMALL, UNPRICED, BROKEN]),
  node(3, [SMALL]),
  node(4, [SMALL]),
  node(5, [SMALL, LARGE]),
  node(6, [LARGE]),
  node(7, [LARGE]),
  node(8, [LARGE], 'probation'),
];

/**
 * What a job with these limits sets aside, in micro-credits, rounded up once: the generator's own arithmetic, to be compared
 * with the ledger's. Throws for a model without a price.
 */
export function lockMicro(priced: DemoModel, inputTokensMax: number, outputTokensMax: number): bigint {
  const { inputPriceMicro, outputPriceMicro } = priced;
  if (inputPriceMicro === null || outputPriceMicro === null)
    throw new RangeError(`${priced.name} has no price`);
  const perMillion = BigInt(inputTokensMax) * inputPriceMicro + BigInt(outputTokensMax) * outputPriceMicro;
  return (perMillion + 999_999n) / 1_000_000n;
}
