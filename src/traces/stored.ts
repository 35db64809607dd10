import type { Binary } from 'mongodb';
import type { Code } from '../errors.ts';
import type { AttemptDocument, EventDocument } from './types.ts';

/**
 * The documents as MongoDB holds them. Names are snake_case with the unit last, but for what OpenTelemetry names already:
 * that is nested under `gen_ai` with its names and units (`time_to_first_chunk` is in seconds).
 * Source: OpenTelemetry semantic conventions for generative AI (status: development).
 */

/** A UUID where the id is one, the sender's own text where it is not (an event may tell of a broken id). */
export type JobKey = Binary | string;

/** Where an attempt went. */
export interface RoutingBson {
  readonly attempt: number;
  readonly node: string;
  readonly session: number;
  readonly is_warm: boolean | null;
  readonly slots_free: number | null;
  readonly workers_free: number | null;
  readonly received_at: Date;
  readonly locked_at: Date;
  readonly dispatched_at: Date | null;
  readonly dispatch_ms: number | null;
}

/** A document of `requests`. */
export interface RequestBson {
  readonly _id: JobKey;
  readonly account: string;
  readonly namespace: string;
  readonly publisher: string;
  readonly at: Date;
  readonly gen_ai: {
    readonly operation: { readonly name: string };
    readonly request: { readonly model: string };
  };
  readonly model_version: number | null;
  readonly priority: string;
  readonly traceparent: string | null;
  readonly routing: RoutingBson | null;
  /** The received bytes. */
  readonly body: Binary;
}

/** A document of `routes`. */
export interface RouteBson {
  readonly _id: string;
  readonly job: JobKey;
  readonly namespace: string;
  readonly gen_ai: { readonly request: { readonly model: string } };
  readonly model_version: number;
  readonly reason: { readonly class: string; readonly code: Code; readonly node: string } | null;
  readonly routing: RoutingBson;
}

/** A document of `attempts`. */
export interface AttemptBson {
  readonly _id: string;
  readonly job: JobKey;
  readonly namespace: string;
  readonly attempt: number;
  readonly node: string;
  readonly session: number;
  readonly outcome: AttemptDocument['outcome'];
  readonly code: Code | null;
  readonly decision: {
    readonly class: string;
    readonly action: 'retry' | 'fail';
    readonly is_counted: boolean;
    readonly delay_ms: number | null;
  } | null;
  readonly at: Date;
  /** int64. */
  readonly charged_micro: bigint;
  readonly locked_micro: bigint;
  readonly result: {
    readonly text: string | null;
    readonly gen_ai: {
      readonly response: {
        readonly finish_reasons: readonly string[];
        readonly time_to_first_chunk: number | null;
      };
      readonly usage: { readonly input_tokens: number; readonly output_tokens: number };
    };
    readonly queued_ms: number;
    readonly total_ms: number;
    /** Both packed by `packIntegers`: where each token ends in `text` (UTF-16 units), when it came (ms). */
    readonly tokens: { readonly ends: Binary; readonly at_ms: Binary };
    readonly gpu: { readonly name: string; readonly vram_gb: number } | null;
    readonly evaluation: { readonly low_confidence: boolean; readonly moderation: string | null } | null;
    readonly error: { readonly code: string; readonly message: string } | null;
    /** SHA-256, 32 bytes. */
    readonly digest: Binary;
    /** The 32-byte digests of the whole flush, one after the other. */
    readonly flush_digests: Binary;
    readonly signature: string;
  } | null;
}

/** A document of `events`. */
export interface EventBson {
  readonly _id: string;
  readonly job: JobKey | null;
  readonly namespace: string | null;
  readonly kind: EventDocument['kind'];
  readonly code: Code;
  readonly field: string | null;
  readonly message: string;
  readonly sender: string | null;
  readonly at: Date;
}

/** A document of the view `traces`: the request with its routes, attempts and events. */
export interface TraceBson extends RequestBson {
  readonly routes: readonly RouteBson[];
  readonly attempts: readonly AttemptBson[];
  readonly events: readonly EventBson[];
}
