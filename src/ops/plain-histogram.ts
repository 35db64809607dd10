import { Histogram, type Registry } from 'prom-client';

/** What one series has seen; `counts` has one more element than there are bounds, for what is above the last. */
interface Series {
  readonly counts: number[];
  sum: number;
}

/**
 * A histogram whose observations only add to plain numbers; the exposition is built when Prometheus scrapes. The library's
 * own `observe` hashes labels on each call. At most one label, with a closed set of values that all start at 0.
 */
export class PlainHistogram<L extends string> extends Histogram<L> {
  readonly #bounds: readonly number[];
  readonly #label: L | null;
  readonly #series: ReadonlyMap<string, Series>;
  readonly #head: { readonly name: string; readonly help: string };

  /** `bounds` in ascending order, in the unit of the name; `values` are the label's values, `['']` without a label. */
  constructor(options: {
    name: string;
    help: string;
    bounds: readonly number[];
    label: L | null;
    values: readonly string[];
    registry: Registry;
  }) {
    const { name, help, bounds, label, values, registry } = options;
    super({
      name,
      help,
      buckets: [...bounds],
      labelNames: label === null ? [] : [label],
      registers: [registry],
    });
    this.#bounds = bounds;
    this.#label = label;
    this.#head = { name, help };
    this.#series = new Map(values.map((value) => [value, { counts: [0, ...bounds.map(() => 0)], sum: 0 }]));
  }

  /** Adds one observation; a negative or unknown one counts as 0, so that a stepped clock cannot spoil the sum. */
  add(labelValue: string, observed: number): void {
    const series = this.#series.get(labelValue);
    if (series === undefined) return;
    const value = observed > 0 ? observed : 0;
    let bucket = 0;
    while (bucket < this.#bounds.length && value > (this.#bounds[bucket] ?? 0)) bucket++;
    series.counts[bucket] = (series.counts[bucket] ?? 0) + 1;
    series.sum += value;
  }

  /** The exposition: cumulative buckets, sum and count of each series. */
  override async get(): ReturnType<Histogram<L>['get']> {
    const values = [...this.#series].flatMap(([value, series]) => this.#expose(value, series));
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the library's enums of types cannot be named here.
    return { ...this.#head, type: 'histogram', aggregator: 'sum', values } as unknown as Awaited<
      ReturnType<Histogram<L>['get']>
    >;
  }

  /** The registry prefers this name when it writes text; its types leave it out. */
  getForPromString(): ReturnType<Histogram<L>['get']> {
    return this.get();
  }

  #expose(value: string, { counts, sum }: Series): object[] {
    const { name } = this.#head;
    const labels = this.#label === null ? {} : { [this.#label]: value };
    let cumulative = 0;
    const buckets = counts.map((count, bucket) => {
      cumulative += count;
      const le = this.#bounds[bucket] ?? '+Inf';
      return { metricName: `${name}_bucket`, labels: { ...labels, le }, value: cumulative };
    });
    return [
      ...buckets,
      { metricName: `${name}_sum`, labels, value: sum },
      { metricName: `${name}_count`, labels, value: cumulative },
    ];
  }
}
