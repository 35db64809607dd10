import { type Static, Type } from 'typebox';
import { NAME_PATTERN } from '../ids.ts';

/**
 * What a client publishes to exchange `jobs` with key `cancel`: the job is not wanted any more. It may come before its job, while
 * that waits, or while it runs. `id` is checked apart, as in a job.
 */
export const CancelMessage = Type.Object(
  {
    v: Type.Literal(1),
    id: Type.String({ maxLength: 64 }),
    account: Type.String({ pattern: NAME_PATTERN }),
    namespace: Type.String({ pattern: '^[a-z0-9][a-z0-9_-]{0,61}/[a-z0-9][a-z0-9_-]{0,61}$' }),
  },
  { additionalProperties: false },
);
export type CancelMessage = Static<typeof CancelMessage>;
