import { type Static, Type } from 'typebox';
import { NAME_PATTERN, UUID_V7_PATTERN } from '../ids.ts';

const closed = { additionalProperties: false } as const;
const Count = Type.Integer({ minimum: 0, maximum: 100_000_000 });
const Millis = Type.Integer({ minimum: 0, maximum: 86_400_000 });

/** How many results one worker flush may sign together. */
export const FLUSH_RESULTS_MAX = 16;

/** What a node publishes to exchange `results` (key `result`, `user_id` = `n-<node>`, `message_id` = `<job>.<attempt>`). */
export const ResultMessage = Type.Object(
  {
    v: Type.Literal(1),
    job: Type.String({ pattern: UUID_V7_PATTERN }),
    attempt: Type.Integer({ minimum: 1, maximum: 100 }),
    node: Type.String({ pattern: NAME_PATTERN }),
    session: Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER }),
    // Every bound here is one that the fixed layout in `signed-bytes.ts` can hold: a stranger's number must not throw there.
    model_version: Type.Integer({ minimum: 1, maximum: 4_294_967_295 }),
    status: Type.Enum(['completed', 'failed']),
    /** Null exactly when `status` is `failed`. */
    output: Type.Union([
      Type.Null(),
      Type.Object({ text: Type.String(), finish_reason: Type.Enum(['stop', 'length']) }, closed),
    ]),
    usage: Type.Object({ input_tokens: Count, output_tokens: Count }, closed),
    timing: Type.Object(
      { queued_ms: Millis, first_token_ms: Type.Union([Type.Null(), Millis]), total_ms: Millis },
      closed,
    ),
    /** Per token: where it ends in `output.text` (UTF-16 units) and when it came, in ms since the model was asked. */
    tokens: Type.Union([
      Type.Null(),
      Type.Object(
        {
          ends: Type.Array(Type.Integer({ minimum: 0 }), { maxItems: 200_000 }),
          at_ms: Type.Array(Type.Integer({ minimum: 0 }), { maxItems: 200_000 }),
        },
        closed,
      ),
    ]),
    gpu: Type.Union([
      Type.Null(),
      Type.Object({ name: Type.String({ maxLength: 128 }), vram_gb: Type.Number() }, closed),
    ]),
    evaluation: Type.Union([
      Type.Null(),
      Type.Object(
        {
          low_confidence: Type.Boolean(),
          moderation: Type.Union([Type.Null(), Type.String({ maxLength: 64 })]),
        },
        closed,
      ),
    ]),
    error: Type.Union([
      Type.Null(),
      Type.Object(
        { code: Type.String({ maxLength: 64 }), message: Type.String({ maxLength: 1_000 }) },
        closed,
      ),
    ]),
    /** Hex SHA-256 of the fixed layout in `signed-bytes.ts`. */
    digest: Type.String({ pattern: '^[0-9a-f]{64}$' }),
    /** The flush this result was signed in: all its digests (this one among them) and one Ed25519 signature, base64. */
    flush: Type.Object(
      {
        digests: Type.Array(Type.String({ pattern: '^[0-9a-f]{64}$' }), {
          minItems: 1,
          maxItems: FLUSH_RESULTS_MAX,
        }),
        signature: Type.String({ maxLength: 128 }),
      },
      closed,
    ),
  },
  closed,
);
export type ResultMessage = Static<typeof ResultMessage>;
