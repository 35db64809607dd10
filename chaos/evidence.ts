import { appendFileSync, closeSync, openSync, readFileSync } from 'node:fs';
import { systemClock } from '../src/clock.ts';
import type { FinalState } from '../src/contracts/reply.ts';

/** One line of the generator's own log. `key` is the correlation id of a message: for a job, its id. */
export type Line =
  | { readonly what: 'sent'; readonly key: string; readonly kind: 'job' | 'poison' }
  /** A publish without a confirm: whether the broker has it is not known, so it is sent again. */
  | { readonly what: 'unconfirmed'; readonly key: string }
  | { readonly what: 'confirmed'; readonly key: string }
  | { readonly what: 'replayed'; readonly key: string; readonly copies: number }
  | {
      readonly what: 'replied';
      readonly key: string;
      readonly job: string | null;
      readonly state: FinalState;
      readonly code: string | null;
      readonly chargedMicro: number;
    };

/** The generator's log: append-only, written line by line, outside of everything that is being tried. */
export class EvidenceLog {
  readonly #file: number;

  constructor(path: string) {
    this.#file = openSync(path, 'a', 0o600);
  }

  add(line: Line): void {
    appendFileSync(this.#file, `${JSON.stringify({ at: systemClock.nowMs(), ...line })}\n`);
  }

  close(): void {
    closeSync(this.#file);
  }
}

/** A reply as the client had it. */
export type SeenReply = Omit<Extract<Line, { what: 'replied' }>, 'what'>;

/** What the log says of one message. */
export interface SentMessage {
  readonly kind: 'job' | 'poison';
  isConfirmed: boolean;
  /** At least one publish of it had no confirm. */
  wasUnknown: boolean;
  copies: number;
  readonly replies: SeenReply[];
}

/** The log, read back: by key. `strays` answer nothing that was sent. */
export interface Evidence {
  readonly messages: ReadonlyMap<string, SentMessage>;
  readonly strays: readonly SeenReply[];
}

/** Reads a log from the disk. */
export function readEvidence(path: string): Evidence {
  const messages = new Map<string, SentMessage>();
  const strays: SeenReply[] = [];
  for (const text of readFileSync(path, 'utf8').split('\n')) {
    if (text === '') continue;
    const line: Line = JSON.parse(text);
    const message = messages.get(line.key);
    if (line.what === 'sent')
      messages.set(line.key, {
        kind: line.kind,
        isConfirmed: false,
        wasUnknown: false,
        copies: 0,
        replies: [],
      });
    else if (message === undefined) {
      if (line.what === 'replied') strays.push(line);
    } else if (line.what === 'unconfirmed') message.wasUnknown = true;
    else if (line.what === 'confirmed') message.isConfirmed = true;
    else if (line.what === 'replayed') message.copies += line.copies;
    else message.replies.push(line);
  }
  return { messages, strays };
}
