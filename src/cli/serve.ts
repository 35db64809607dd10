import type { Command } from 'commander';
import type { Config } from '../config-schema.ts';
import { command, withAction } from './command.ts';

/** `tollgate serve`: one coordinator until SIGTERM or SIGINT. */
export function serveCommand(): Command {
  const serve = command({
    name: 'serve',
    summary: 'run one coordinator until SIGTERM; any number may run beside it',
    examples: [
      'tollgate serve',
      'tollgate serve --config /etc/tollgate.toml --set http.port=9464',
      'tollgate serve --check',
    ],
  }).option('--check', 'only check the configuration and show it, without secrets');
  return withAction<{ check?: true }>(serve, async ({ options, output, loadConfig }) => {
    const config = await loadConfig();
    if (options.check) {
      const { describeConfig } = await import('../config.ts');
      const shown = describeConfig(config);
      const lines = Object.entries(shown).flatMap(([section, values]) => [
        `[${section}]`,
        ...Object.entries(values).map(([key, value]) => `${key} = ${JSON.stringify(value)}`),
      ]);
      output.result(shown, lines.join('\n'));
      return;
    }
    await serveUntilSignal(config);
  });
}

/** Starts a coordinator and stops it on the first signal, also one that comes while it starts. Rejects if it cannot start. */
async function serveUntilSignal(config: Config): Promise<void> {
  const [{ runDaemon }, { createLog }, { runUntilSignal }] = await Promise.all([
    import('../main.ts'),
    import('../ops/log.ts'),
    import('../ops/lifecycle.ts'),
  ]);
  const stopping = new AbortController();
  const failed = new AbortController();
  const starting = runDaemon(config, { signal: stopping.signal });
  starting.catch(() => failed.abort());
  const stop = async (): Promise<void> => {
    stopping.abort();
    const daemon = await starting.catch(() => null);
    await daemon?.stop();
  };
  await runUntilSignal(stop, createLog(config.log), { signal: failed.signal });
  if (failed.signal.aborted) await starting;
}
