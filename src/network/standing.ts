import type { Node } from './types.ts';

/** May a node have new jobs now? `trickle`: one at a time, because it has just come back from being ejected. */
export type Admission = 'open' | 'trickle' | 'closed';

/**
 * How a node stands at monotonic time `nowMs`. Three things close it, each by itself: it is retired, an operator drains it, or its
 * strikes ejected it. The last ends by itself; for `trickleMs` after it the node gets one job at a time, and one more strike at the
 * bound sends it away for twice as long. What it runs goes on in any case.
 */
export function admissionOf(
  node: Pick<Node, 'lifecycle' | 'drainByMs' | 'ineligibleUntilMs'>,
  nowMs: number,
  trickleMs: number,
): Admission {
  if (node.lifecycle === 'retired' || node.drainByMs !== null) return 'closed';
  if (node.ineligibleUntilMs === null) return 'open';
  if (nowMs < node.ineligibleUntilMs) return 'closed';
  return nowMs < node.ineligibleUntilMs + trickleMs ? 'trickle' : 'open';
}
