import { type Static, Type } from 'typebox';
import { NAME_PATTERN, UUID_V7_PATTERN } from '../ids.ts';
import { ChatInput } from './job.ts';

const closed = { additionalProperties: false } as const;

/**
 * What a coordinator sends to a node (exchange `dispatch`, key = node id, `message_id` = `<job>.<attempt>`,
 * `expiration` = `start_ms`). It carries no account, namespace or reply address: a node learns the input and nothing else.
 */
export const DispatchMessage = Type.Object(
  {
    v: Type.Literal(1),
    job: Type.String({ pattern: UUID_V7_PATTERN }),
    attempt: Type.Integer({ minimum: 1, maximum: 100 }),
    node: Type.String({ pattern: NAME_PATTERN }),
    session: Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER }),
    model: Type.String(),
    model_version: Type.Integer({ minimum: 1, maximum: 4_294_967_295 }),
    kind: Type.Literal('chat'),
    input: ChatInput,
    limits: Type.Object(
      { input_tokens_max: Type.Integer({ minimum: 1 }), output_tokens_max: Type.Integer({ minimum: 1 }) },
      closed,
    ),
    /** What is left of the start window when this was published, in milliseconds. */
    start_ms: Type.Integer({ minimum: 1 }),
    /** What is left of the job's `timeout_ms` when this was published, in milliseconds. */
    remaining_ms: Type.Integer({ minimum: 1 }),
    /** The first token must come within this, in milliseconds since the model was asked. */
    first_token_ms: Type.Integer({ minimum: 1 }),
  },
  closed,
);
export type DispatchMessage = Static<typeof DispatchMessage>;

/**
 * What a coordinator sends to a node's control queue. `superseded`: a newer session of the node is alive, stop. `cancel`: nobody
 * waits for `attempt` of `job` any more, let it go and send no result; the two fields are only there for it.
 */
export const ControlMessage = Type.Object(
  {
    v: Type.Literal(1),
    kind: Type.Enum(['config', 'drain', 'superseded', 'hello_again', 'cancel']),
    session: Type.Integer({ minimum: 1 }),
    job: Type.Optional(Type.String({ pattern: UUID_V7_PATTERN })),
    attempt: Type.Optional(Type.Integer({ minimum: 1, maximum: 100 })),
  },
  closed,
);
export type ControlMessage = Static<typeof ControlMessage>;
