import type { Code } from '../errors.ts';

/** How a job stands for its client. `locked` never leaves in a reply. */
export type FinalState = 'succeeded' | 'failed' | 'cancelled' | 'expired' | 'refused';

/**
 * What goes back to `reply_to` by the default exchange, at least once, always with the same `message_id` (`r-<job>`), and
 * with the client's `correlation_id`. `charged_micro` is in millionths of a credit. Exactly one of `output` and `error` is null.
 */
export interface ReplyMessage {
  readonly v: 1;
  /** Null only where the request was too broken to read an id from it. */
  readonly job: string | null;
  readonly state: FinalState;
  readonly output: { readonly text: string; readonly finish_reason: 'stop' | 'length' } | null;
  readonly usage: { readonly input_tokens: number; readonly output_tokens: number } | null;
  readonly charged_micro: number;
  readonly model_version: number | null;
  readonly error: {
    readonly code: Code;
    readonly message: string;
    readonly field: string | null;
    readonly retryable: boolean;
  } | null;
}
