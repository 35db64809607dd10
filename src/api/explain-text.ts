import type { Explanation, Filter, FilterCount } from './explain.ts';
import type { JobExplanation, Place } from './job-place.ts';
import { oneLine } from './plain-text.ts';

/** Nodes named one by one, for a terminal. */
const NODES_SHOWN_MAX = 12;

/** What the nodes left after a filter do, for one and for several; for `registered` it stands behind the number alone. */
function meaning({ filter, left }: FilterCount, { model, region, vramGb }: Explanation): string {
  const one = left === 1;
  const words: Record<Filter, string> = {
    registered: one ? 'node registered' : 'nodes registered',
    model: `${one ? 'serves' : 'serve'} ${model}`,
    region: `in region ${region}`,
    vram: `${one ? 'has' : 'have'} ${vramGb} GB`,
    live: `${one ? 'is' : 'are'} live`,
    taking: `${one ? 'takes' : 'take'} new jobs`,
    offering: `${one ? 'offers' : 'offer'} the model`,
    untried: `had no attempt of it yet`,
    slot: `${one ? 'has' : 'have'} a free slot`,
  };
  return words[filter];
}

const FAULTS: Readonly<Record<Filter, string>> = {
  registered: 'retired',
  model: 'does not serve the model',
  region: 'in another region',
  vram: 'has less memory',
  live: 'its worker is away',
  taking: 'its worker is draining',
  offering: 'its worker does not offer the model, or not yet for this constraint',
  untried: 'had an attempt of this job',
  slot: 'no free slot',
};

/** `8 nodes registered, 3 of 8 serve small, 0 of 3 have a free slot`: each filter counts those that the one before let through. */
export function filterLine(explanation: Explanation): string {
  return explanation.filters
    .map((count) => {
      const number = count.filter === 'registered' ? `${count.left}` : `${count.left} of ${count.of}`;
      return `${number} ${meaning(count, explanation)}`;
    })
    .join(', ');
}

/** `queued: …`, `not now: …` or `never: …`, in one line. */
export function verdictLine(explanation: Explanation): string {
  const { verdict, refusal } = explanation;
  if (refusal !== null)
    return oneLine(`never: ${refusal.code}: ${refusal.message}; ${filterLine(explanation)}`);
  return oneLine(`${verdict === 'queued' ? 'queued' : 'not now'}: ${filterLine(explanation)}`);
}

/** The whole explanation of a job for a terminal: where it is, then why it waits, then node by node. */
export function renderJobExplanation({ job, place, explanation }: JobExplanation): string {
  const lines = [`Job ${job}: ${placeLine(place)}`];
  if (explanation === null) return lines.join('\n');
  lines.push(verdictLine(explanation));
  const shown = explanation.nodes.filter(({ fault }) => fault !== 'registered').slice(0, NODES_SHOWN_MAX);
  const columns = Math.max(0, ...shown.map(({ node }) => node.length));
  for (const { node, fault } of shown)
    lines.push(`  ${node.padEnd(columns)}  ${fault === null ? 'has a free slot' : FAULTS[fault]}`);
  const counted = explanation.filters[0]?.left ?? 0;
  if (counted > shown.length) lines.push(`  and ${counted - shown.length} more`);
  if (explanation.nodesUnread > 0) lines.push(`  ${explanation.nodesUnread} workers were not looked at`);
  return lines.join('\n');
}

function placeLine(place: Place): string {
  switch (place.kind) {
    case 'ended':
      return `it ended, ${place.state}${place.code === null ? '' : ` (${place.code})`}; tollgate job show tells how`;
    case 'running':
      return `locked, attempt ${place.attempt} on ${place.node}; nothing keeps it waiting`;
    case 'between_attempts':
      return `locked, waits for a node for attempt ${place.attempt} in ${place.queue}${depth(place.depth)}`;
    case 'held':
      return `in the hands of a coordinator for ${place.forMs} ms, from ${place.queue}`;
    case 'queued':
      return `it was handed back to ${place.queue} ${place.agoMs} ms ago${depth(place.depth)}`;
    case 'unknown':
      return place.queue === null
        ? 'not seen by this coordinator: if it was sent it waits in its queue; say --model to see why'
        : `not seen by this coordinator: if it was sent it waits in ${place.queue}${depth(place.depth)}`;
    default:
      return place satisfies never;
  }
}

function depth(count: number | null): string {
  return count === null ? '' : `, where ${count} wait; its position is not known`;
}
