import { createPrivateKey, type KeyObject } from 'node:crypto';
import type { Directory, Node } from '../../src/network/types.ts';
import { rawPublicKey } from '../../src/workers/agent/keys.ts';
import { NO_OWN_LIMITS, PaperDirectory } from '../dispatcher/samples.ts';
import type { Random } from './random.ts';

/** DER of an Ed25519 private key: the raw 32 bytes follow. Source: RFC 8410. */
const ED25519_PKCS8 = Buffer.from('302e020100300506032b657004220420', 'hex');

/** The private key that these 32 bytes are: keys of a seed, not of chance. */
export function keyOf(random: Random): KeyObject {
  return createPrivateKey({
    key: Buffer.concat([ED25519_PKCS8, random.bytes(32)]),
    format: 'der',
    type: 'pkcs8',
  });
}

/** A registered node with its private key. */
export interface KeyedNode extends Node {
  readonly privateKey: KeyObject;
}

function nodeOf(id: string, lifecycle: Node['lifecycle'], random: Random): KeyedNode {
  const privateKey = keyOf(random);
  return {
    id,
    owner: 'owner',
    publicKey: rawPublicKey(privateKey),
    models: new Set(['small']),
    lifecycle,
    region: null,
    vramGb: null,
    drainByMs: null,
    ineligibleUntilMs: null,
    ineligibleReason: null,
    privateKey,
  };
}

/**
 * A directory in memory: account `acme` that publisher `web` may spend for, `rival` with a publisher of its own, `idle` who may spend for
 * nobody; models `small`, and `free` without a price; nodes `n1` (active), `n2` (on probation) and `n3` (retired).
 */
export class FuzzDirectory extends PaperDirectory implements Directory {
  readonly keyed: readonly KeyedNode[];
  readonly #byId: ReadonlyMap<string, KeyedNode>;

  constructor(random: Random) {
    super();
    this.keyed = [
      nodeOf('n1', 'active', random),
      nodeOf('n2', 'probation', random),
      nodeOf('n3', 'retired', random),
    ];
    this.#byId = new Map(this.keyed.map((node) => [node.id, node]));
  }

  override account(name: string) {
    if (name !== 'rival') return super.account(name);
    return { id: 2, name, namespaces: new Map([['rival/prod', 4]]), limits: NO_OWN_LIMITS };
  }

  override publisher(name: string) {
    if (name !== 'rival') return super.publisher(name);
    return { id: 8, name, accountIds: new Set([2]), bannedUntilMs: Number.NEGATIVE_INFINITY };
  }

  override node(id?: string): Node | undefined {
    return this.#byId.get(id ?? '');
  }

  override nodes(): Node[] {
    return [...this.keyed];
  }
}
