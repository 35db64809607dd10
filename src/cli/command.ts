import { Command, InvalidArgumentError } from 'commander';
import type { ConfigSources } from '../config.ts';
import type { ConfigPath } from '../config-keys.ts';
import type { Config } from '../config-schema.ts';
import { EXIT, failureOf, usageFault } from './failure.ts';
import { type JsonOption, Output } from './output.ts';

/** What every command has beside its own options. */
interface CommonOptions {
  readonly json?: JsonOption;
  readonly config?: string;
  readonly set?: readonly string[];
}

/** What a command's action is given. */
export interface Invocation<O> {
  readonly args: readonly string[];
  readonly options: O;
  readonly output: Output;
  /**
   * Loads the configuration. `needs` names the settings without a default that this command uses, all unless given; what the
   * command brings along is stronger (`flags`) or weaker (`fallbacks`) than what its user gave.
   */
  readonly loadConfig: (
    needs?: readonly ConfigPath[],
    brought?: Pick<ConfigSources, 'flags' | 'fallbacks'>,
  ) => Promise<Config>;
}

/** An action: its exit status, or nothing for 0. A fault is thrown. */
export type Action<O> = (invocation: Invocation<O>) => Promise<number | void>;

/** How a command is described; `examples` are whole lines that can be typed. */
export interface CommandText {
  readonly name: string;
  readonly summary: string;
  readonly examples: readonly string[];
}

/** Text after the options, and errors that are thrown instead of printed: `main.ts` prints them in one form. */
function dressed(bare: Command, examples: readonly string[]): Command {
  return bare
    .exitOverride()
    .configureOutput({ outputError: () => undefined })
    .addHelpText('after', `\nExamples:\n${examples.map((line) => `  $ ${line}`).join('\n')}`);
}

/** A group of commands, such as `tollgate account`. */
export function commandGroup(text: CommandText, members: readonly Command[]): Command {
  const group = dressed(new Command(text.name).description(text.summary), text.examples);
  for (const member of members) group.addCommand(member);
  return group;
}

/** A command with the common options. Give it its arguments and options, then its action with `withAction`. */
export function command(text: CommandText): Command {
  return dressed(new Command(text.name).description(text.summary), text.examples)
    .option('--json [file]', 'print JSON, or write it to a file; put it last')
    .option('--config <file>', 'TOML file with settings (TOLLGATE_CONFIG)')
    .option('--set <section.key=value>', 'one setting, may be repeated', collect);
}

function collect(value: string, before: readonly string[] = []): readonly string[] {
  return [...before, value];
}

/** `section.key=value` pairs as the loader takes them. */
function flagsOf(pairs: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    pairs.map((pair) => {
      const at = pair.indexOf('=');
      if (at < 1) usageFault('--set', `expects section.key=value, got ${JSON.stringify(pair)}`);
      return [pair.slice(0, at), pair.slice(at + 1)];
    }),
  );
}

/**
 * Sets what `target` does. The exit status is left in `process.exitCode`; a fault is shown, as JSON too if that was asked
 * for. `O` is the shape that the command's own `.option()` calls promise.
 */
export function withAction<O extends object>(target: Command, action: Action<O>): Command {
  return target.action(async () => {
    const options = target.opts<O & CommonOptions>();
    const output = new Output(options.json);
    try {
      const loadConfig: Invocation<O>['loadConfig'] = (needs, brought) => configOf(options, needs, brought);
      const status = await action({ args: target.args, options, output, loadConfig });
      process.exitCode = status ?? EXIT.ok;
    } catch (error) {
      const failure = failureOf(error);
      output.failure(failure);
      process.exitCode = failure.status;
    }
  });
}

async function configOf(
  options: CommonOptions,
  needs: readonly ConfigPath[] | undefined,
  brought: Pick<ConfigSources, 'flags' | 'fallbacks'> = {},
): Promise<Config> {
  const { loadConfig } = await import('../config.ts');
  const flags = { ...flagsOf(options.set ?? []), ...brought.flags };
  const sources = { ...brought, flags, file: options.config ?? null };
  return loadConfig(needs === undefined ? sources : { ...sources, needs });
}

/** A parser of whole numbers from `min` to `max` for `.option()`. */
export function integer(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < min || value > max)
      throw new InvalidArgumentError(`expects a whole number from ${min} to ${max}.`);
    return value;
  };
}

/** A parser of texts of one form for `.option()` and `.argument()`; `form` says in words what is right. */
export function matching(pattern: string, form: string): (text: string) => string {
  const expression = new RegExp(pattern);
  return (text) => {
    if (!expression.test(text)) throw new InvalidArgumentError(`expects ${form}.`);
    return text;
  };
}
