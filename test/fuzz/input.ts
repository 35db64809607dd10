import { Answers } from '../../src/broker/answers.ts';
import { AmqpDelivery } from '../../src/broker/delivery.ts';
import type { Delivery } from '../../src/broker/types.ts';
import type { Source } from '../../src/dispatcher/types.ts';

/** Properties of an AMQP message as a stranger may set them. Headers may hold anything that AMQP carries. */
export interface Envelope {
  readonly userId?: string | undefined;
  readonly messageId?: string | undefined;
  readonly correlationId?: string | undefined;
  readonly replyTo?: string | undefined;
  readonly expiration?: string | undefined;
  readonly headers?: Readonly<Record<string, unknown>> | undefined;
}

/**
 * What must come of an input: `refused` with a code (if `code` is given, that one), `accepted`, or `open`: the mutation does not tell,
 * and only if it is accepted the oracle judges whether it could be.
 */
export type Expectation = 'refused' | 'accepted' | 'open';

/** One message from a stranger. */
export interface Input {
  readonly kind: 'job' | 'cancel' | 'result' | 'fleet';
  /** What was done to a valid message, from a closed list. */
  readonly mutation: string;
  readonly body: Buffer;
  readonly envelope: Envelope;
  readonly routingKey: string;
  readonly source: Source;
  readonly expects: Expectation;
  readonly code: string | null;
  /** The valid message it was made from, as text. */
  readonly original: string;
  /** Results: signatures are looked at. */
  readonly isStrict: boolean;
}

type Message = ConstructorParameters<typeof AmqpDelivery>[1];

/** amqplib says of each property that it is not there. */
const NO_PROPERTIES: Message['properties'] = {
  contentType: undefined,
  contentEncoding: undefined,
  headers: {},
  deliveryMode: 2,
  priority: undefined,
  correlationId: undefined,
  replyTo: undefined,
  expiration: undefined,
  messageId: undefined,
  timestamp: undefined,
  type: undefined,
  userId: undefined,
  appId: undefined,
  clusterId: undefined,
};

const forget = (): void => undefined;

/** What the broker would hand over, read by the code that reads real messages. */
export function deliveryOf(input: Input): Delivery {
  const { envelope, routingKey, body, kind } = input;
  const exchange = { job: 'jobs', cancel: 'jobs', result: 'results', fleet: 'fleet' }[kind];
  const queue = { job: 'jobs.small.interactive', cancel: 'jobs.cancel', result: 'results', fleet: 'fleet' }[
    kind
  ];
  const properties: Message['properties'] = Object.assign({}, NO_PROPERTIES, envelope);
  const fields = { deliveryTag: 1, redelivered: false, exchange, routingKey, consumerTag: 'fuzz' };
  return new AmqpDelivery(queue, { content: body, fields, properties }, new Answers(forget), 0);
}
