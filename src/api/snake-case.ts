/** A record of ours as JSON has it everywhere: names in snake case, bytes in base64. */
export function snakeCase(value: object): object;
export function snakeCase(value: unknown): unknown;
export function snakeCase(value: unknown): unknown {
  if (Buffer.isBuffer(value)) return value.toString('base64');
  if (Array.isArray(value)) return value.map((each: unknown) => snakeCase(each));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, field]) => [
      name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
      snakeCase(field),
    ]),
  );
}
