import type { SaturatedRun } from '../../measure/runs.ts';
import type { Figure, Target } from '../../report/findings.ts';
import type { TollgateSubject } from '../../subjects/subject.ts';
import type { Place } from '../place.ts';

/** One side of a condition: what is done before a run, and the run. */
export type Side = (pair: number) => Promise<SaturatedRun>;

/** Tollgate with and without something that may slow it down. */
export interface Condition {
  /** What is put to it, to be read after "saturated dispatch". */
  readonly title: string;
  /** Of the rate with it, divided by the rate without. */
  readonly target: Target | null;
  readonly without: Side;
  readonly with: Side;
  /** Measured after its pairs, in as many of its own: what the servers alone make of it. */
  readonly control?: (pairs: number) => Promise<readonly Figure[]>;
  /** Undoes what the last run has left, before the next condition. */
  readonly end?: () => Promise<void>;
  /** What was measured before its pairs. */
  readonly figures?: readonly Figure[];
  /** What a reader has to know of it, once it was measured. */
  readonly notes?: readonly string[];
}

/** What conditions are made in. */
export interface Circumstances {
  readonly place: Place;
  /** Jobs of one run. */
  readonly jobs: number;
  readonly profile: string | null;
  /** Tollgate in the usual world; made once, for all conditions that need no other. */
  readonly usual: () => Promise<TollgateSubject>;
}
