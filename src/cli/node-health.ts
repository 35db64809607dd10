import type { Command } from 'commander';
import type { Config } from '../config-schema.ts';
import { TollgateError } from '../errors.ts';
import { NAME_PATTERN } from '../ids.ts';
import type { Nodes } from '../network/nodes.ts';
import { type Admission, admissionOf } from '../network/standing.ts';
import type { ExplainedStrike, Node } from '../network/types.ts';
import { command, matching, withAction } from './command.ts';
import { usageFault } from './failure.ts';
import { table } from './output.ts';

const UNITS_MS: Readonly<Record<string, number>> = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const DEADLINE = '10m';
const DEADLINE_MS_MAX = 30 * 86_400_000;

/** `90s`, `10m`, `2h` or `1d` in milliseconds, for `.option()`. */
function duration(text: string): number {
  const [, number = '', unit = ''] = /^(\d{1,6})([smhd])$/.exec(text) ?? [];
  const ms = Number(number) * (UNITS_MS[unit] ?? Number.NaN);
  if (!(ms > 0 && ms <= DEADLINE_MS_MAX))
    usageFault('--deadline', 'expects a time like 90s, 10m or 2h, up to 30d');
  return ms;
}

function nodeCommandOf(text: Parameters<typeof command>[0]): Command {
  return command(text).argument('<id>', 'id of the node', matching(NAME_PATTERN, 'a name like gpu-1'));
}

async function withNodes<T>(config: Config, work: (nodes: Nodes) => Promise<T>): Promise<T> {
  const [{ withDatabase }, { Nodes: NodesPg }] = await Promise.all([
    import('./stores.ts'),
    import('../network/nodes.ts'),
  ]);
  return withDatabase(config, (db) => work(new NodesPg(db)));
}

/** `tollgate node drain`. */
export function drainCommand(): Command {
  const drain = nodeCommandOf({
    name: 'drain',
    summary: 'give a node no new jobs, and take from it what it still runs at a deadline',
    examples: ['tollgate node drain gpu-1', 'tollgate node drain gpu-1 --deadline 2h'],
  }).option('--deadline <time>', 'when what it still runs goes to other nodes', duration, duration(DEADLINE));
  return withAction<{ readonly deadline: number }>(drain, async ({ args, options, output, loadConfig }) => {
    const [id = ''] = args;
    await withNodes(await loadConfig(['servers.postgresAdminUrl']), (nodes) =>
      nodes.drain(id, options.deadline),
    );
    const text = `${id} gets no new jobs and is empty ${inWords(options.deadline)}; tollgate node undrain ${id} ends this`;
    output.result({ node: id, deadline_ms: options.deadline }, text);
  });
}

/** `tollgate node undrain`. */
export function undrainCommand(): Command {
  const undrain = nodeCommandOf({
    name: 'undrain',
    summary: 'end the drain of a node',
    examples: ['tollgate node undrain gpu-1'],
  });
  return withAction(undrain, async ({ args, output, loadConfig }) => {
    const [id = ''] = args;
    await withNodes(await loadConfig(['servers.postgresAdminUrl']), (nodes) => nodes.undrain(id));
    output.result({ node: id }, `${id} is not drained any more`);
  });
}

/** `tollgate node show`: how a node stands and what it is blamed for, for its owner. */
export function showCommand(): Command {
  const show = nodeCommandOf({
    name: 'show',
    summary: 'how a node stands, and its strikes: what, when, what each counts now and until when',
    examples: ['tollgate node show gpu-1', 'tollgate node show gpu-1 --json'],
  });
  return withAction(show, async ({ args, output, loadConfig }) => {
    const [id = ''] = args;
    const config = await loadConfig(['servers.postgresAdminUrl']);
    const { strikeHalfLifeMs, strikeScoreMax } = config.health;
    const { node, strikes } = await withNodes(config, async (nodes) => ({
      node: (await nodes.list()).find((one) => one.id === id),
      strikes: await nodes.strikes(id, strikeHalfLifeMs),
    }));
    if (node === undefined) throw new TollgateError('TG_NOT_FOUND', `no node ${id}`);
    const score = strikes.reduce((sum, { weight }) => sum + weight, 0);
    output.result(
      {
        node: id,
        owner: node.owner,
        ...standingData(node, config),
        score,
        score_max: strikeScoreMax,
        strikes: strikes.map(strikeData),
      },
      [
        `${id}, owner ${node.owner}`,
        `lifecycle  ${node.lifecycle}`,
        `drain      ${node.drainByMs === null ? 'none' : `to be empty ${inWords(node.drainByMs)}`}`,
        `eligible   ${eligibleText(node)}`,
        `new jobs   ${admission(node, config)}`,
        `strikes    ${score.toFixed(2)} of ${strikeScoreMax}`,
        ...(strikes.length === 0 ? [] : ['', table([HEAD, ...strikes.map(strikeRow)])]),
      ].join('\n'),
    );
  });
}

/** Whether a node gets new jobs, for people and programs. */
export function admission(node: Node, { health }: Config): Admission {
  return admissionOf(node, 0, health.trickleMs);
}

/** Lifecycle, drain and strikes apart, and what follows from them. Times in milliseconds from now. */
export function standingData(node: Node, config: Config): object {
  const { lifecycle, drainByMs, ineligibleUntilMs, ineligibleReason } = node;
  const isEjected = (ineligibleUntilMs ?? 0) > 0;
  return {
    lifecycle,
    drain_ms: drainByMs,
    ineligible_ms: isEjected ? ineligibleUntilMs : null,
    ineligible_reason: isEjected ? ineligibleReason : null,
    admission: admission(node, config),
  };
}

const HEAD = ['what', 'when', 'job', 'counts now', 'counts until', 'void because'];

function strikeRow({ kind, at, jobId, weight, countsUntil, voidedFor }: ExplainedStrike): string[] {
  const until = voidedFor === null ? countsUntil.toISOString() : '';
  return [kind, at.toISOString(), jobId ?? '', weight.toFixed(2), until, voidedFor ?? ''];
}

function strikeData({ kind, at, jobId, weight, countsUntil, voidedFor }: ExplainedStrike): object {
  const times = { at: at.toISOString(), counts_until: countsUntil.toISOString() };
  return { kind, job: jobId, weight, ...times, voided_for: voidedFor };
}

function eligibleText({ ineligibleUntilMs, ineligibleReason }: Node): string {
  if (ineligibleUntilMs === null || ineligibleUntilMs <= 0) return 'yes';
  return `no: ${ineligibleReason ?? ''}; again ${inWords(ineligibleUntilMs)}`;
}

function inWords(ms: number): string {
  if (ms <= 0) return 'by now';
  return ms < 2 * (UNITS_MS['m'] ?? 0)
    ? `in ${Math.ceil(ms / 1_000)} s`
    : `in ${Math.round(ms / 60_000)} min`;
}
