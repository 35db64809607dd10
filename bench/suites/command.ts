/** Something else that the bench does than to measure by one suite. */
export interface Command {
  /** In half a line. */
  readonly asks: string;
  readonly usage: string;
  /** Reads its own arguments; resolves to the exit status. Throws UsageError and BenchError. */
  readonly run: (argv: readonly string[]) => Promise<number>;
}
