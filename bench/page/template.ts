/**
 * Puts texts where a template says `{{name}}`. Throws when the template asks for one that there is not, or when one is not asked
 * for: then the two have grown apart.
 */
export function filled(template: string, texts: Readonly<Record<string, string>>): string {
  const used = new Set<string>();
  const result = template.replaceAll(/\{\{([a-zA-Z]+)\}\}/g, (_, name: string) => {
    const text = texts[name];
    if (text === undefined) throw new RangeError(`the template asks for ${name}, and there is no such text`);
    used.add(name);
    return text;
  });
  const unused = Object.keys(texts).filter((name) => !used.has(name));
  if (unused.length > 0) throw new RangeError(`the template does not ask for ${unused.join(', ')}`);
  return result;
}

/** A table of Markdown. The first column is flush left, the others right. */
export function markdownTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  return [
    tableLine(head),
    `|${head.map((_, i) => (i === 0 ? '---' : '---:')).join('|')}|`,
    ...rows.map(tableLine),
  ].join('\n');
}

function tableLine(cells: readonly string[]): string {
  return `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
}
