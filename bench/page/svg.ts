/** A point of a plot; `low` and `high`: the range of its runs. */
export interface Point {
  readonly x: number;
  readonly y: number;
  readonly low: number;
  readonly high: number;
}

/** A line of a plot. */
export interface Series {
  readonly name: string;
  readonly points: readonly Point[];
}

/** One plot of a picture. Its y axis begins at 0: what is small is to look small. */
export interface Panel {
  readonly title: string;
  readonly xLabel: string;
  readonly xScale: 'linear' | 'log';
  readonly series: readonly Series[];
}

const WIDTH = 300;
const HEIGHT = 250;
/** Above the plot its title and two rows of names: a line must not run through them. */
const INSIDE = { left: 54, right: 14, top: 60, bottom: 40 };
const KEY = { columns: 2, width: 110, height: 14, top: 34 };
const TICKS = 4;
/** Of the plot's height, above its highest point. */
const HEADROOM = 1.08;

/** Readable on light and on dark: the reader's own setting decides. Colours differ in lightness too. */
const STYLE = `
  text { font: 11px system-ui, sans-serif; fill: #333 }
  .title { font-weight: 600 }
  .grid { stroke: #ddd }
  .a { stroke: #0b6bcb; fill: #0b6bcb } .b { stroke: #d9730d; fill: #d9730d }
  .c { stroke: #3b8132; fill: #3b8132 } .d { stroke: #8a3ffc; fill: #8a3ffc }
  .line { fill: none; stroke-width: 2 } .range { stroke-width: 1; opacity: .7 }
  .key { stroke: none }
  @media (prefers-color-scheme: dark) {
    text { fill: #ddd } .grid { stroke: #444 }
    .a { stroke: #6cb6ff; fill: #6cb6ff } .b { stroke: #ffa657; fill: #ffa657 }
    .c { stroke: #7ee787; fill: #7ee787 } .d { stroke: #d2a8ff; fill: #d2a8ff }
    .line { fill: none } .key { stroke: none }
  }`;
const CLASSES = ['a', 'b', 'c', 'd'] as const;

/** Plots side by side as one SVG picture. `label` says in words what it shows. */
export function picture(label: string, panels: readonly Panel[]): string {
  const width = WIDTH * panels.length;
  const inside = panels.map((panel, i) => `<g transform="translate(${i * WIDTH} 0)">\n${drawn(panel)}\n</g>`);
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${HEIGHT}" width="${width}" height="${HEIGHT}" role="img" aria-label="${escaped(label)}">
<style>${STYLE}
</style>
${inside.join('\n')}
</svg>
`;
}

/** Steps of an axis from 0 that reach beyond `max`: 1, 2 or 5 times a power of ten. */
export function niceTicks(max: number): number[] {
  if (!(max > 0)) return [0, 1];
  const rough = max / TICKS;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = ([1, 2, 5, 10].find((factor) => factor * power >= rough) ?? 10) * power;
  return Array.from({ length: Math.ceil(max / step) + 1 }, (_, i) => Number((i * step).toPrecision(12)));
}

/** A number on an axis: `5M`, `20k`, `300`, `0.5`. */
export function shortNumber(value: number): string {
  for (const [size, letter] of [
    [1e9, 'G'],
    [1e6, 'M'],
    [1e3, 'k'],
  ] as const)
    if (value >= size) return `${Number((value / size).toPrecision(3))}${letter}`;
  return String(Number(value.toPrecision(3)));
}

function drawn(panel: Panel): string {
  const points = panel.series.flatMap((series) => series.points);
  const ticks = niceTicks(Math.max(0, ...points.map(({ high }) => high)) * HEADROOM);
  const top = ticks.at(-1) ?? 1;
  const xs = [...new Set(points.map(({ x }) => x))].toSorted((a, b) => a - b);
  const place = {
    x: scaleX(xs, panel.xScale),
    y: (value: number) => HEIGHT - INSIDE.bottom - (value / top) * (HEIGHT - INSIDE.top - INSIDE.bottom),
  };
  return [
    `<text class="title" x="${INSIDE.left}" y="16">${escaped(panel.title)}</text>`,
    ...ticks.map((tick) => tickLine(tick, place.y(tick))),
    ...xs.map(
      (x) =>
        `<text x="${at(place.x(x))}" y="${HEIGHT - INSIDE.bottom + 15}" text-anchor="middle">${shortNumber(x)}</text>`,
    ),
    `<text x="${(WIDTH + INSIDE.left) / 2}" y="${HEIGHT - 8}" text-anchor="middle">${escaped(panel.xLabel)}</text>`,
    ...panel.series.map((series, i) => seriesText(series, i, place)),
    ...(panel.series.length > 1 ? panel.series.map(keyText) : []),
  ].join('\n');
}

function tickLine(tick: number, y: number): string {
  return (
    `<line class="grid" x1="${INSIDE.left}" x2="${WIDTH - INSIDE.right}" y1="${at(y)}" y2="${at(y)}"/>` +
    `<text x="${INSIDE.left - 6}" y="${at(y + 4)}" text-anchor="end">${shortNumber(tick)}</text>`
  );
}

type Place = { readonly x: (value: number) => number; readonly y: (value: number) => number };

function seriesText({ points }: Series, index: number, { x, y }: Place): string {
  const style = CLASSES[index % CLASSES.length];
  const line = points.map((point) => `${at(x(point.x))},${at(y(point.y))}`).join(' ');
  const marks = points.map(
    (point) =>
      `<line class="range ${style}" x1="${at(x(point.x))}" x2="${at(x(point.x))}" y1="${at(y(point.low))}" y2="${at(y(point.high))}"/>` +
      `<circle class="${style}" cx="${at(x(point.x))}" cy="${at(y(point.y))}" r="3"/>`,
  );
  return [`<polyline class="line ${style}" points="${line}"/>`, ...marks].join('\n');
}

function keyText({ name }: Series, index: number): string {
  const x = INSIDE.left + (index % KEY.columns) * KEY.width;
  const y = KEY.top + Math.floor(index / KEY.columns) * KEY.height;
  const style = CLASSES[index % CLASSES.length];
  return `<rect class="key ${style}" x="${x}" y="${y - 8}" width="8" height="8"/><text x="${x + 12}" y="${y}">${escaped(name)}</text>`;
}

function scaleX(xs: readonly number[], kind: Panel['xScale']): (value: number) => number {
  // A value of 0 has no logarithm, and an axis of rows begins there: it stands where 1 would.
  const of = (value: number): number => (kind === 'log' ? Math.log10(Math.max(1, value)) : value);
  const [low, high] = [of(xs[0] ?? 0), of(xs.at(-1) ?? 1)];
  const [left, right] = [INSIDE.left + 14, WIDTH - INSIDE.right - 14];
  return (value) =>
    high === low ? (left + right) / 2 : left + ((of(value) - low) / (high - low)) * (right - left);
}

function at(value: number): string {
  return String(Number(value.toFixed(1)));
}

function escaped(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}
