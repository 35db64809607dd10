/** Longest event, in UTF-16 units; a token with its envelope is a few hundred. */
const EVENT_LENGTH_MAX = 1_048_576;

/**
 * Takes a stream of server-sent events apart. Chunks may be cut anywhere, also inside a character or between CR and LF; lines
 * end with LF, CR or both; comments and fields other than `data` are skipped; an event that the stream's end cuts off
 * is dropped. Source: WHATWG HTML, section 9.2.6.
 */
export class SseParser {
  readonly #decoder = new TextDecoder();
  /** The last line as far as it has come. */
  #rest = '';
  /** The `data` lines of the event under way; null if it has none yet. */
  #data: string | null = null;
  /** The last chunk ended with CR: an LF at the beginning of the next belongs to it. */
  #isAfterCr = false;

  /** Takes the next bytes; returns the data of the events they complete. Throws RangeError if an event is too long. */
  push(chunk: Uint8Array): string[] {
    let text = this.#decoder.decode(chunk, { stream: true });
    if (text === '') return [];
    if (this.#isAfterCr && text.startsWith('\n')) text = text.slice(1);
    this.#isAfterCr = text.endsWith('\r');
    const lines = (this.#rest + text).split(/\r\n|\n|\r/);
    this.#rest = lines.pop() ?? '';
    const events: string[] = [];
    for (const line of lines) this.#takeLine(line, events);
    if (this.#rest.length + (this.#data?.length ?? 0) > EVENT_LENGTH_MAX)
      throw new RangeError(`a server-sent event is longer than ${EVENT_LENGTH_MAX}`);
    return events;
  }

  #takeLine(line: string, events: string[]): void {
    if (line === '') {
      if (this.#data !== null) events.push(this.#data);
      this.#data = null;
      return;
    }
    const colon = line.indexOf(':');
    if ((colon === -1 ? line : line.slice(0, colon)) !== 'data') return;
    const value = colon === -1 ? '' : line.slice(line[colon + 1] === ' ' ? colon + 2 : colon + 1);
    this.#data = this.#data === null ? value : `${this.#data}\n${value}`;
  }
}
