import type { KeyObject } from 'node:crypto';
import { validateHeaderValue } from 'node:http';
import type { FleetMessage } from '../../contracts/fleet.ts';
import { MODEL_PATTERN, NAME_PATTERN } from '../../ids.ts';
import { completionsUrl, type ServedModel } from './model-client.ts';

/** Bounds of a fleet message. */
const SLOTS_MAX = 4_096;
const MODELS_MAX = 64;

/** How a worker is set up. */
export interface WorkerAgentOptions {
  /** Id of the registered node; the broker connection must be user `n-<node>` and send that as `user_id`. */
  readonly node: string;
  /** Milliseconds since 1970; default: now. Of two live sessions of a node the higher one wins. */
  readonly session?: number;
  /** The node's Ed25519 private key, as an object or in PEM. */
  readonly privateKey: KeyObject | string;
  /** Attempts run at a time, 1 to 4,096. */
  readonly slots: number;
  readonly models: readonly ServedModel[];
  readonly gpu?: FleetMessage['gpu'];
  /** How often it speaks; default 5,000. Must be what coordinators count on (`fleet.heartbeatMs`). */
  readonly heartbeatMs?: number;
  /** `stop`: how long what is running may take; default 20,000. */
  readonly drainMs?: number;
  /** Answers kept for dispatches that come again; default 1,000 and 16 MiB. */
  readonly recentResultsMax?: number;
  readonly recentBytesMax?: number;
  /** File that gets one JSON line per executed dispatch; default none. */
  readonly logFile?: string;
}

/** Every fault of the options, one line each; empty if they are good. Takes what an operator typed, not only what fits the type. */
export function faultsOf({ node, slots, models }: WorkerAgentOptions): string[] {
  const faults: string[] = [];
  if (!new RegExp(NAME_PATTERN).test(node)) faults.push(`node must match ${NAME_PATTERN}`);
  if (!Number.isInteger(slots) || slots < 1 || slots > SLOTS_MAX)
    faults.push(`slots must be a whole number from 1 to ${SLOTS_MAX}`);
  if (models.length < 1 || models.length > MODELS_MAX)
    faults.push(`models must name 1 to ${MODELS_MAX} models`);
  if (new Set(models.map(({ name }) => name)).size < models.length)
    faults.push('models names one model twice');
  for (const [i, { name, url, apiKey }] of models.entries()) {
    if (!new RegExp(MODEL_PATTERN).test(name)) faults.push(`models[${i}].name must match ${MODEL_PATTERN}`);
    try {
      const { protocol } = completionsUrl(url);
      if (protocol !== 'http:' && protocol !== 'https:')
        faults.push(`models[${i}].url must be http or https`);
    } catch {
      faults.push(`models[${i}].url is not a URL`);
    }
    try {
      validateHeaderValue('authorization', apiKey ?? '');
    } catch {
      faults.push(`models[${i}].apiKey cannot be sent in a header`);
    }
  }
  return faults;
}
