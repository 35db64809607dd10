import { type Static, Type } from 'typebox';
import { VRAM_GB_MAX } from '../contracts/names.ts';
import { checkerOf } from '../contracts/parse.ts';
import { CODES, type Refusal, refusal, StoreError } from '../errors.ts';
import { isUuidV7, MODEL_PATTERN, NAME_PATTERN } from '../ids.ts';
import { explain, type Question } from './explain.ts';
import { renderJobExplanation, verdictLine } from './explain-text.ts';
import type { HttpAnswer, HttpRoutes } from './http.ts';
import { explainJob, type PlaceDeps } from './job-place.ts';
import { snakeCase } from './snake-case.ts';

const closed = { additionalProperties: false } as const;

const Asked = Type.Object(
  {
    model: Type.String({ pattern: MODEL_PATTERN }),
    region: Type.Optional(Type.String({ pattern: NAME_PATTERN })),
    vram_gb_min: Type.Optional(Type.Integer({ minimum: 1, maximum: VRAM_GB_MAX })),
    priority: Type.Optional(Type.Enum(['interactive', 'batch'])),
  },
  closed,
);

const check = checkerOf(Asked, '');

/**
 * `/v1/explain?model=…&region=…&vram_gb_min=…`: what would become of such a job at this moment. `/v1/jobs/<id>/explain`: where that
 * job is and why it waits; the same parameters help where nobody has seen it. Both say it as `text` too, for people. No content of
 * any job is in either.
 */
export function explainRoutes(deps: PlaceDeps): HttpRoutes {
  return {
    '/v1/explain': (query) =>
      answering(async () => {
        const asked = askedOf(query);
        if (!asked.ok) return badRequest(asked.fault);
        let found = await explain(questionOf(asked.value), deps);
        if (found.verdict === 'never') {
          // The copy in memory may be a moment behind.
          await deps.directory.refresh();
          found = await explain(questionOf(asked.value), deps);
        }
        return { status: 200, body: snakeCase({ ...found, text: verdictLine(found) }) };
      }),
    '/v1/jobs/*/explain': (query, id) =>
      answering(async () => {
        if (!isUuidV7(id)) return badRequest(refusal('TG_JOB_ID_INVALID', 'id'));
        const asked = query.has('model') ? askedOf(query) : null;
        if (asked !== null && !asked.ok) return badRequest(asked.fault);
        const hint = asked && {
          question: questionOf(asked.value),
          priority: asked.value.priority ?? ('interactive' as const),
        };
        const found = await explainJob(id, hint, deps);
        return { status: 200, body: snakeCase({ ...found, text: renderJobExplanation(found) }) };
      }),
  };
}

function askedOf(query: URLSearchParams) {
  const fields: Record<string, unknown> = Object.fromEntries(query);
  const vram = query.get('vram_gb_min');
  if (vram !== null) fields['vram_gb_min'] = /^\d{1,6}$/.test(vram) ? Number(vram) : vram;
  return check(fields);
}

function questionOf({ model, region, vram_gb_min: vramGbMin }: Static<typeof Asked>): Question {
  return { model, region: region ?? null, vramGbMin: vramGbMin ?? null };
}

function badRequest({ code, field, message }: Refusal): HttpAnswer {
  return { status: 400, body: { code, field, message } };
}

/** A server that is away is said, and is no fault of ours. */
async function answering(answer: () => Promise<HttpAnswer>): Promise<HttpAnswer> {
  try {
    return await answer();
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
    const { text } = CODES[error.code];
    return { status: 503, body: { code: error.code, message: `${text}: ${error.store}` } };
  }
}
