import type { Random } from '../chaos/random.ts';
import type { Timeline } from './timeline.ts';

/** What may go wrong with one message or one call, beside what the schedule does to whole processes and servers. */
export type Fault =
  | 'cut_in_publish'
  | 'cut_after_publish'
  | 'nack'
  | 'call_lost'
  | 'answer_lost'
  | 'wake_lost'
  | 'alarm_lost'
  | 'spooled';

/** The seed's temper: how often each fault strikes while faults are on, and how slow the network is. */
export class Faults {
  isOn = true;
  readonly #random: Random;
  readonly #chances: Readonly<Record<Fault, number>>;
  readonly #slowness: number;

  constructor(timeline: Timeline) {
    const random = timeline.random;
    this.#random = random;
    // A third of the seeds are calm, so that what only happens under load is seen, too.
    const rate = random.pick([0, 0.01, 0.03, 0.08]);
    const chance = () => rate * random.share();
    this.#chances = {
      cut_in_publish: chance() / 2,
      cut_after_publish: chance(),
      nack: chance() / 4,
      call_lost: chance(),
      answer_lost: chance(),
      wake_lost: chance() * 4,
      alarm_lost: chance() * 4,
      spooled: chance() * 4,
    };
    this.#slowness = random.pick([1, 1, 5, 40]);
  }

  /** Whether the fault happens now. */
  strikes(fault: Fault): boolean {
    return this.isOn && this.#random.share() < this.#chances[fault];
  }

  /** How long one way over the network takes, in milliseconds. */
  delayMs(): number {
    const share = this.#random.share();
    return share > 0.98 ? share * 20 * this.#slowness : share * this.#slowness;
  }
}
