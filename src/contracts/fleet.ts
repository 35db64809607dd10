import { type Static, Type } from 'typebox';
import { MODEL_PATTERN, NAME_PATTERN, UUID_V7_PATTERN } from '../ids.ts';

const closed = { additionalProperties: false } as const;

/**
 * What a worker says on exchange `fleet` (key `hello | heartbeat | drain | bye`, `user_id` = `n-<node>`). All four carry
 * the whole state, so a lost message is healed by the next one. `seq` grows by one per message of a session: coordinators
 * share the queue and may see two out of order, and the older one then changes nothing.
 */
export const FleetMessage = Type.Object(
  {
    v: Type.Literal(1),
    kind: Type.Enum(['hello', 'heartbeat', 'drain', 'bye']),
    node: Type.String({ pattern: NAME_PATTERN }),
    /** Milliseconds since 1970 at the worker's start: of two live sessions of a node the higher one wins. */
    session: Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER }),
    seq: Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER }),
    slots_total: Type.Integer({ minimum: 1, maximum: 4_096 }),
    slots_in_use: Type.Integer({ minimum: 0, maximum: 4_096 }),
    /** Models it serves (pool names); only those the node is registered for count. */
    pools: Type.Array(Type.String({ pattern: MODEL_PATTERN }), { minItems: 1, maxItems: 64 }),
    /** Those of `pools` that are loaded now. */
    warm_models: Type.Array(Type.String({ pattern: MODEL_PATTERN }), { maxItems: 64 }),
    config_version: Type.Integer({ minimum: 0 }),
    gpu: Type.Union([
      Type.Null(),
      Type.Object({ name: Type.String({ maxLength: 128 }), vram_gb: Type.Number() }, closed),
    ]),
    /** What it holds now. */
    leases: Type.Array(
      Type.Object(
        {
          job: Type.String({ pattern: UUID_V7_PATTERN }),
          attempt: Type.Integer({ minimum: 1 }),
          /** Tokens that the model has given so far; left out by a worker that does not count. */
          tokens: Type.Optional(Type.Integer({ minimum: 0 })),
        },
        closed,
      ),
      { maxItems: 4_096 },
    ),
    /** Ed25519 over `helloBytes` in `signed-bytes.ts`, base64; null on all but `hello`. */
    signature: Type.Union([Type.Null(), Type.String({ maxLength: 128 })]),
  },
  closed,
);
export type FleetMessage = Static<typeof FleetMessage>;
