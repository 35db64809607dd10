import { type Static, Type } from 'typebox';
import { MODEL_PATTERN, NAME_PATTERN } from '../ids.ts';
import { VRAM_GB_MAX } from './names.ts';

const closed = { additionalProperties: false } as const;

/** Longest wait in a queue, by priority, in milliseconds: the pool queue's own TTL. Source: design [19]. */
export const WAIT_MS_MAX = { interactive: 600_000, batch: 86_400_000 } as const;

/** The input of a `chat` job, as an OpenAI-compatible server takes it. */
export const ChatInput = Type.Object(
  {
    messages: Type.Array(
      Type.Object(
        {
          role: Type.Enum(['system', 'user', 'assistant', 'tool']),
          content: Type.String({ maxLength: 1_000_000 }),
        },
        closed,
      ),
      { minItems: 1, maxItems: 1_000 },
    ),
    temperature: Type.Optional(Type.Number({ minimum: 0, maximum: 2 })),
    top_p: Type.Optional(Type.Number({ minimum: 0, maximum: 1 })),
    seed: Type.Optional(Type.Integer({ minimum: 0, maximum: 4_294_967_295 })),
    stop: Type.Optional(
      Type.Array(Type.String({ minLength: 1, maxLength: 64 }), { minItems: 1, maxItems: 4 }),
    ),
  },
  closed,
);
export type ChatInput = Static<typeof ChatInput>;

/**
 * What a client publishes to exchange `jobs`. `id` is checked apart (form and window have codes of their own), and so
 * are the kinds, constraints and `stream`, which are valid words that this version does not offer.
 */
export const JobMessage = Type.Object(
  {
    v: Type.Literal(1),
    id: Type.String({ maxLength: 64 }),
    account: Type.String({ pattern: NAME_PATTERN }),
    namespace: Type.String({ pattern: '^[a-z0-9][a-z0-9_-]{0,61}/[a-z0-9][a-z0-9_-]{0,61}$' }),
    model: Type.String({ pattern: MODEL_PATTERN }),
    kind: Type.Enum(['chat', 'completion', 'embedding', 'image', 'audio']),
    input: Type.Object({}, { additionalProperties: true }),
    limits: Type.Object(
      {
        input_tokens_max: Type.Integer({ minimum: 1, maximum: 10_000_000 }),
        output_tokens_max: Type.Integer({ minimum: 1, maximum: 10_000_000 }),
        timeout_ms: Type.Integer({ minimum: 1_000, maximum: 3_600_000 }),
        wait_ms: Type.Integer({ minimum: 1, maximum: WAIT_MS_MAX.batch }),
        attempts_max: Type.Integer({ minimum: 1, maximum: 10 }),
      },
      closed,
    ),
    constraints: Type.Object(
      {
        subcloud: Type.Union([Type.Null(), Type.String({ maxLength: 64 })]),
        region: Type.Union([Type.Null(), Type.String({ pattern: NAME_PATTERN })]),
        vram_gb_min: Type.Union([Type.Null(), Type.Integer({ minimum: 1, maximum: VRAM_GB_MAX })]),
      },
      closed,
    ),
    priority: Type.Enum(['interactive', 'batch']),
    stream: Type.Boolean(),
    /** Other models that may run it when its own has no node left to try; each must cost no more than the lock. In this order. */
    fallbacks: Type.Optional(
      Type.Array(Type.String({ pattern: MODEL_PATTERN }), { maxItems: 4, uniqueItems: true }),
    ),
  },
  closed,
);
export type JobMessage = Static<typeof JobMessage>;

/** A job of kind `chat` whose input was checked too. */
export type ChatJob = Omit<JobMessage, 'kind' | 'input'> & {
  readonly kind: 'chat';
  readonly input: ChatInput;
};
