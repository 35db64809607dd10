/** What would move the cursor, colour the terminal or end the line. */
const CONTROL = /\p{Cc}/gu;
/** Characters without a shape that reorder or join what is around them: a text must not rewrite its neighbours. */
const INVISIBLE = /\p{Cf}/gu;
/** Halves of a character, which no terminal can show. */
const BROKEN = /\p{Cs}/gu;
/** Characters that take two columns. */
const WIDE =
  /[\p{Emoji_Presentation}\p{Script=Han}\p{Script=Hangul}\p{Script=Hiragana}\p{Script=Katakana}\u3000-\u303f\uff01-\uff60]/u;

const ELLIPSIS = '…';

/** `text` as one line that a terminal shows as it is: for all that comes from a client, a node or a model. */
export function oneLine(text: string): string {
  return text.replace(CONTROL, ' ').replace(INVISIBLE, '').replace(BROKEN, '\ufffd');
}

/** Columns that `text` takes, or a few more: a combining mark counts as one. */
export function columnsOf(text: string): number {
  let columns = 0;
  for (const character of text) columns += WIDE.test(character) ? 2 : 1;
  return columns;
}

/** `text`, or as much of it as fits into `columns` with an ellipsis. */
export function cutTo(columns: number, text: string): string {
  if (columnsOf(text) <= columns) return text;
  return `${headOf(columns - 1, text)}${ELLIPSIS}`;
}

/** `text` in at most `linesMax` lines of `columns`, broken at spaces where there are any; what is left over is cut. */
export function wrapTo(columns: number, linesMax: number, text: string): string[] {
  const lines: string[] = [];
  let rest = text.trim();
  while (lines.length < linesMax - 1 && columnsOf(rest) > columns) {
    const head = headOf(columns, rest);
    const isWhole = rest[head.length] === ' ';
    const space = isWhole ? head.length : head.lastIndexOf(' ');
    const line = space > columns / 2 ? head.slice(0, space) : head;
    lines.push(line.trimEnd());
    rest = rest.slice(line.length).trimStart();
  }
  lines.push(cutTo(columns, rest));
  return lines;
}

function headOf(columns: number, text: string): string {
  let head = '';
  let left = columns;
  for (const character of text) {
    left -= columnsOf(character);
    if (left < 0) break;
    head += character;
  }
  return head;
}
