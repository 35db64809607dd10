/**
 * Hides passwords in text that may hold URLs: `scheme://user:password@host` and `password=…` in a query string. The user,
 * host and path stay, because they are what an operator needs to see.
 */
export function redactUrls(text: string): string {
  return text
    .replaceAll(/([a-z][a-z0-9+.-]*:\/\/[^:/?#\s@]*):[^/?#\s]*@/gi, '$1:***@')
    .replaceAll(/([?&](?:password|passwd|secret|token)=)[^&#\s]*/gi, '$1***');
}
