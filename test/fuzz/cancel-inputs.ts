import type { CancelMessage } from '../../src/contracts/cancel.ts';
import { CANCEL_KEY } from '../../src/contracts/names.ts';
import type { Envelope, Expectation, Input } from './input.ts';
import { deaths, FOREIGN_REPLY_QUEUES, STRANGERS, UUID_FORMS } from './job-inputs.ts';
import { GENERIC, parsed } from './mutations.ts';
import type { Random } from './random.ts';
import { weighted } from './weighted.ts';

interface Fault {
  readonly message?: CancelMessage;
  readonly envelope?: Envelope;
  readonly expects: Expectation;
  readonly code?: string;
}

type Make = (random: Random, message: CancelMessage, envelope: Envelope) => Fault;

const CANCEL_FAULTS: Readonly<Record<string, { readonly weight: number; readonly make: Make }>> = {
  'user_id missing': {
    weight: 1,
    make: (_, __, envelope) => ({
      envelope: { ...envelope, userId: undefined },
      expects: 'refused',
      code: 'TG_SENDER_MISSING',
    }),
  },
  'user_id of nobody': {
    weight: 2,
    make: (random, _, envelope) => {
      const userId = random.pick(STRANGERS);
      const replyTo = `reply.${userId}`;
      return { envelope: { ...envelope, userId, replyTo }, expects: 'refused', code: 'TG_SENDER_UNKNOWN' };
    },
  },
  'user_id of another publisher': {
    weight: 2,
    make: (random, _, envelope) => {
      const userId = random.pick(['p-idle', 'p-rival']);
      const replyTo = `reply.${userId}`;
      return {
        envelope: { ...envelope, userId, replyTo },
        expects: 'refused',
        code: 'TG_ACCOUNT_NOT_ENTITLED',
      };
    },
  },
  'foreign reply_to': {
    weight: 1,
    make: (random, _, envelope) => ({
      envelope: { ...envelope, replyTo: random.pick(FOREIGN_REPLY_QUEUES) },
      expects: 'refused',
      code: 'TG_REPLY_TO_FOREIGN',
    }),
  },
  'x-death of a client': {
    weight: 1,
    make: (random, _, envelope) => ({
      envelope: { ...envelope, headers: { 'x-death': deaths(random, CANCEL_KEY) } },
      expects: 'refused',
      code: 'TG_SENDER_UNKNOWN',
    }),
  },
  'odd form of a UUID': {
    weight: 2,
    make: (random, message) => ({
      message: { ...message, id: random.pick(UUID_FORMS)(message.id) },
      expects: 'refused',
    }),
  },
  'account of another': {
    weight: 2,
    make: (random, message) => {
      const account = random.pick(['rival', 'nobody', 'constructor']);
      const code = account === 'rival' ? 'TG_ACCOUNT_NOT_ENTITLED' : 'TG_ACCOUNT_UNKNOWN';
      return { message: { ...message, account, namespace: `${account}/prod` }, expects: 'refused', code };
    },
  },
  'namespace of another': {
    weight: 1,
    make: (random, message) => ({
      message: { ...message, namespace: random.pick(['rival/prod', 'acme/other']) },
      expects: 'refused',
      code: 'TG_NAMESPACE_UNKNOWN',
    }),
  },
};

const GENERIC_SHARE = 0.7;
const pickGeneric = weighted(GENERIC);
const pickFault = weighted(CANCEL_FAULTS);

/** Makes a cancellation of a job that never was. `nowMs`: about when its id was made. */
export function cancelInput(random: Random, nowMs: number): Input {
  const id = random.uuidV7(nowMs - random.int(0, 3_600_000));
  const message: CancelMessage = { v: 1, id, account: 'acme', namespace: 'acme/prod' };
  const envelope = { userId: 'p-web', messageId: id, correlationId: id, replyTo: 'reply.p-web' };
  const original = JSON.stringify(message);
  const base = {
    kind: 'cancel',
    envelope,
    routingKey: CANCEL_KEY,
    source: 'pool',
    original,
    isStrict: false,
    code: null,
  } as const;
  if (random.chance(GENERIC_SHARE)) {
    const mutation = pickGeneric(random);
    const mutated = GENERIC[mutation]?.mutate(random, parsed(original), original);
    if (mutated === undefined) throw new Error(`no mutation ${mutation}`);
    const { body, expects, code } = mutated;
    return { ...base, mutation, body, expects, code: code === undefined ? null : `TG_MESSAGE_${code}` };
  }
  const mutation = pickFault(random);
  const fault = CANCEL_FAULTS[mutation]?.make(random, message, envelope);
  if (fault === undefined) throw new Error(`no fault ${mutation}`);
  const { message: said = message, ...rest } = fault;
  return { ...base, mutation, body: Buffer.from(JSON.stringify(said)), ...rest };
}
