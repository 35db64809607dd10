import { readFileSync } from 'node:fs';
import { PEERS, VARIANTS } from '../peers/settings.ts';
import { NO_FIGURE, shownTarget } from '../report/report.ts';
import { type Row, shortRows, shownHolds, shownValue, type Whole } from '../report/whole.ts';
import { subjectOf } from '../suites/peers-figures.ts';
import { figuresById, pointsOf, valuesBetween } from './figures.ts';
import { growthPart, type Part, shown } from './growth.ts';
import { picture } from './svg.ts';
import { filled, markdownTable } from './template.ts';

const TEMPLATE = new URL('performance.md', import.meta.url);

/** docs/performance.md and the pictures beside it, from what `all --json` wrote. */
export function performancePage(whole: Whole): Part {
  const figures = figuresById(whole);
  const latency = latencyPart(figures);
  const growth = growthPart(figures);
  const text = filled(readFileSync(TEMPLATE, 'utf8'), {
    provenance: provenanceOf(whole),
    numbers: numbersOf(whole.rows),
    short: shortOf(whole),
    rates: ratesOf(figures),
    peers: peersOf(figures),
    limits: limitsOf(figures),
    cpu: cpuOf(figures),
    latency: latency.text,
    growth: growth.text,
  });
  return { text, pictures: { ...latency.pictures, ...growth.pictures } };
}

/** Where, when and of which commit, as every page of figures says it. */
export function provenanceOf({ machine, versions, startedAt, command, outcomes }: Whole): string {
  const servers = Object.entries(versions).map(([server, version]) => `${server} ${version}`);
  return (
    `Measured ${startedAt.slice(0, 10)} by \`${command}\` at commit ${machine.commit ?? 'unknown'}, on ` +
    `${machine.cores} cores (${machine.cpu}), ${machine.memoryGiB} GiB, kernel ${machine.kernel}, Node ${machine.node}` +
    `${servers.length === 0 ? '' : `; ${servers.join(', ')}`}.${strangersOf(outcomes, startedAt)}`
  );
}

/** Suites that were measured on another day, or at another commit: files, and what an earlier call had. */
function strangersOf(outcomes: Whole['outcomes'], startedAt: string): string {
  const earlier = outcomes.flatMap((one) =>
    one.state === 'measured' && one.findings.startedAt < startedAt
      ? [
          `${one.suite} ${one.findings.startedAt.slice(0, 10)} at ${one.findings.machine.commit ?? 'an unknown commit'}`,
        ]
      : [],
  );
  return earlier.length === 0 ? '' : ` Measured before: ${earlier.join('; ')}.`;
}

function numbersOf(rows: readonly Row[]): string {
  return markdownTable(
    ['what', 'asked', 'median (range)', 'holds', 'measured'],
    rows.map((row) => [
      row.what,
      row.target === null ? '' : shownTarget(row.target),
      row.summary === null ? `none: ${row.problem ?? ''}` : shownValue(row),
      row.holds === false ? '**NO**' : shownHolds(row),
      row.startedAt === null ? '' : `${row.startedAt.slice(0, 10)}, ${row.commit ?? 'unknown'}`,
    ]),
  );
}

function shortOf({ rows, remarks }: Whole): string {
  const short = shortRows(rows);
  if (short.length === 0) return 'No measured figure falls short.';
  return short
    .map(({ id, what }) => `- **${what}.** ${remarks[id] ?? 'Nothing is noted yet about what was tried.'}`)
    .join('\n');
}

type Figures = ReturnType<typeof figuresById>;

const SUBJECTS = ['relay', 'tuned relay', 'tollgate', 'one at a time'] as const;

function ratesOf(figures: Figures): string {
  return markdownTable(
    ['jobs/s, median (range)', 'dispatch', 'full life'],
    SUBJECTS.map((name) => [
      name,
      ...['dispatch', 'life'].map((kind) => shown(figures, `${kind}/rate/${name}`)),
    ]),
  );
}

/** Processes as the hotpath suite names their CPU per life, and in words. */
export const PROCESSES = [
  ['tollgate', 'tollgate serve'],
  ['rabbitmq', 'RabbitMQ'],
  ['postgres', 'PostgreSQL'],
  ['redis', 'Redis'],
  ['mongodb', 'MongoDB'],
] as const;

function cpuOf(figures: Figures): string {
  return markdownTable(
    ['CPU per full life, µs', 'median (range)'],
    PROCESSES.map(([name, title]) => [title, shown(figures, `cpu/life/process/${name}`)]),
  );
}

/** Each peer by what its handler does with a job; a dash where there is no such handler, or no figure. */
function peersOf(figures: Figures): string {
  const peers = PEERS.flatMap((peer) => [
    { peer, areLocksBatched: false, name: peer },
    { peer, areLocksBatched: true, name: `${peer}, the locks of a batch together` },
  ]);
  const rows = peers.map(({ peer, areLocksBatched, name }) => [
    name,
    ...VARIANTS.map((variant) =>
      shown(figures, `peers/rate/${subjectOf({ peer, variant, setting: { areLocksBatched } })}`),
    ),
  ]);
  return markdownTable(
    ['jobs/s, median (range)', ...VARIANTS],
    [
      ['tollgate, dispatch', shown(figures, 'peers/rate/tollgate'), NO_FIGURE, NO_FIGURE],
      ...rows.filter(([, ...cells]) => cells.some((cell) => cell !== NO_FIGURE)),
    ],
  );
}

/** What each server did alone. */
function limitsOf(figures: Figures): string {
  const own = [...figures.values()].filter(({ id }) => id.startsWith('limits/'));
  return markdownTable(
    ['alone, median (range)', 'a second'],
    own.map(({ id, name }) => [name, shown(figures, id)]),
  );
}

const QUANTILES = ['p50', 'p95', 'p99', 'p999'] as const;
const PLOTTED = ['p50', 'p99'] as const;

function latencyPart(figures: Figures): Part {
  const rates = [
    ...new Set(
      ['/p50/tollgate', '/p50/relay', '/backlog/tollgate', '/backlog/relay'].flatMap((ending) =>
        valuesBetween(figures, 'latency/', ending),
      ),
    ),
  ].toSorted((a, b) => a - b);
  if (rates.length === 0) return { text: 'Not measured yet: `npm run bench -- hotpath`.', pictures: {} };
  const rows = rates.flatMap((rate) =>
    (['relay', 'tollgate'] as const).map((subject) => [
      `${rate === 0 ? 'idle, one at a time' : `${rate.toLocaleString('en')}/s`}, ${subject}`,
      ...(figures.has(`latency/${rate}/backlog/${subject}`)
        ? ['**not sustained**', '', '', '']
        : QUANTILES.map((quantile) => shown(figures, `latency/${rate}/${quantile}/${subject}`))),
    ]),
  );
  const panels = PLOTTED.map((quantile) => ({
    title: `${quantile}, ms`,
    xLabel: 'jobs a second',
    xScale: 'linear' as const,
    series: (['tollgate', 'relay'] as const).map((subject) => ({
      name: subject,
      points: rates.flatMap((rate) => pointsOf(figures, `latency/${rate}/${quantile}/${subject}`, rate)),
    })),
  }));
  const table = markdownTable(['ms, median (range)', 'p50', 'p95', 'p99', 'p99.9'], rows);
  return {
    text: `![Latency against rate](performance/latency.svg)\n\n${table}`,
    pictures: { 'latency.svg': picture('Latency from due to the node’s consumer against the rate', panels) },
  };
}
