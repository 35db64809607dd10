import type { Figure } from '../report/findings.ts';
import { NO_FIGURE, plain, shownSummary } from '../report/report.ts';
import { figuresById, pointsOf, summaryOf, valuesBetween } from './figures.ts';
import { picture, type Panel } from './svg.ts';
import { markdownTable } from './template.ts';

type Figures = ReturnType<typeof figuresById>;

/** What grows, as the ids of the suite name it, and in words. */
const SECTIONS = [
  { axis: 'pools', title: 'Pools', xLabel: 'pools' },
  { axis: 'workers', title: 'Workers', xLabel: 'workers registered' },
  { axis: 'accounts', title: 'Accounts', xLabel: 'accounts that pay' },
  { axis: 'payload', title: 'Payload', xLabel: 'bytes of a job' },
  { axis: 'coordinators', title: 'Coordinators', xLabel: 'coordinators on the same two cores' },
] as const;

/** Whose CPU is shown, as the ids end. */
const PROCESSES = ['tollgate', 'rabbitmq', 'postgres', 'redis', 'mongod'] as const;
const STORES = [
  ['postgres', 'PostgreSQL'],
  ['mongo', 'MongoDB'],
] as const;

/** One part of the page: its text, and the picture that it shows. */
export interface Part {
  readonly text: string;
  /** File name → SVG. */
  readonly pictures: Readonly<Record<string, string>>;
}

/** What a job costs as the ledger and each other axis grow, one section each. */
export function growthPart(figures: Figures): Part {
  const parts = [rowsSection(figures), ...SECTIONS.map((section) => axisSection(figures, section))];
  return {
    text: parts.map(({ text }) => text).join('\n\n'),
    pictures: Object.assign({}, ...parts.map(({ pictures }) => pictures)),
  };
}

function axisSection(figures: Figures, { axis, title, xLabel }: (typeof SECTIONS)[number]): Part {
  const head = `### ${title}`;
  const values = valuesBetween(figures, `growth/${axis}/`, '/rate');
  if (values.length === 0)
    return { text: `${head}\n\nNot measured yet: \`npm run bench -- growth\`.`, pictures: {} };
  const id = (value: number, ending: string): string => `growth/${axis}/${value}/${ending}`;
  const panel = (name: string, endings: readonly (readonly [string, string])[]): Panel => ({
    title: name,
    xLabel,
    xScale: axis === 'coordinators' ? 'linear' : 'log',
    series: endings.map(([ending, label]) => ({
      name: label,
      points: values.flatMap((value) => pointsOf(figures, id(value, ending), value)),
    })),
  });
  const rows = values.map((value) => [
    plain(value).replace('.00', '').replace('.0', ''),
    shown(figures, id(value, 'rate')),
    ...PROCESSES.map((name) => shownMedian(figures, id(value, `cpu-${name}`))),
    ...STORES.map(([store]) => shownMedian(figures, id(value, `bytes-${store}`))),
  ]);
  const file = `growth-${axis}.svg`;
  const svg = picture(`${title}: jobs a second, CPU and bytes per job against ${xLabel}`, [
    panel('jobs/s', [['rate', 'dispatch']]),
    panel('CPU µs per job', [
      ['cpu-tollgate', 'tollgate'],
      ['cpu-rabbitmq', 'RabbitMQ'],
      ['cpu-postgres', 'PostgreSQL'],
      ['cpu-mongod', 'MongoDB'],
    ]),
    panel(
      'bytes stored per job',
      STORES.map(([store, label]) => [`bytes-${store}`, label]),
    ),
  ]);
  const columns = [
    xLabel,
    'jobs/s (range)',
    ...PROCESSES.map((name) => `${name} µs`),
    ...STORES.map(([, label]) => `${label} B`),
  ];
  return {
    text: `${head}\n\n![${title}](performance/${file})\n\n${markdownTable(columns, rows)}`,
    pictures: { [file]: svg },
  };
}

/** What ids of the suite of the ledger begin with. */
const ROWS = 'conditions/rows-';

/** The ledger: its suite measures an empty one and a full one side by side. */
function rowsSection(figures: Figures): Part {
  const head = '### Jobs in the ledger';
  const counts = valuesBetween(figures, ROWS, '');
  const last = counts.at(-1);
  if (last === undefined)
    return { text: `${head}\n\nNot measured yet: \`npm run bench -- rows\`.`, pictures: {} };
  const series = [0, ...counts].map((count) => ({
    count,
    id: count === 0 ? `${ROWS}${last}/without` : `${ROWS}${count}/with`,
  }));
  const rows = series.map(({ count, id }) => [
    count.toLocaleString('en'),
    shown(figures, id),
    count === 0 ? '' : shown(figures, `${ROWS}${count}`),
  ]);
  const panel: Panel = {
    title: 'jobs/s',
    xLabel: 'jobs in the ledger before',
    xScale: 'linear',
    series: [{ name: 'dispatch', points: series.flatMap(({ count, id }) => pointsOf(figures, id, count)) }],
  };
  const table = markdownTable(['jobs in the ledger', 'jobs/s (range)', '÷ empty (range)'], rows);
  return {
    text: `${head}\n\n![Jobs in the ledger](performance/growth-rows.svg)\n\n${table}`,
    pictures: { 'growth-rows.svg': picture('Jobs a second against jobs in the ledger', [panel]) },
  };
}

/** Median and range; a dash where there is none. */
export function shown(figures: ReadonlyMap<string, Figure>, id: string): string {
  const summary = summaryOf(figures, id);
  return summary === null ? NO_FIGURE : shownSummary(summary);
}

function shownMedian(figures: Figures, id: string): string {
  return plain(summaryOf(figures, id)?.median ?? Number.NaN);
}
