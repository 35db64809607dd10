import type { Command } from 'commander';
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
    const [{ systemdFacts }, { runDaemon }, { Systemd }, { createLog }, { runService }] = await Promise.all([
      import('../config.ts'),
      import('../main.ts'),
      import('../ops/service-manager.ts'),
      import('../ops/log.ts'),
      import('./run-service.ts'),
    ]);
    const log = createLog(config.log);
    const facts = systemdFacts();
    const manager = facts === null ? null : new Systemd(facts.watchdogMs, log);
    await runService((signal) => runDaemon(config, { signal, log, manager }), log);
  });
}
