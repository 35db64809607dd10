import { type Static, Type } from 'typebox';
import { UUID_V7_PATTERN } from '../ids.ts';

/**
 * What coordinators publish to exchange `retry` (key `<pool>.<priority>`, `expiration` = what is left of the job's time): a later
 * attempt is due. It names the attempt and carries nothing else: the row has its terms, the trace its input. Source: design [24].
 */
export const RetryMessage = Type.Object(
  {
    v: Type.Literal(1),
    job: Type.String({ pattern: UUID_V7_PATTERN }),
    attempt: Type.Integer({ minimum: 2, maximum: 100 }),
  },
  { additionalProperties: false },
);
export type RetryMessage = Static<typeof RetryMessage>;
