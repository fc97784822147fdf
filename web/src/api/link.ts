/** Links to files, on the host that this page came from: behind a proxy or by another name the server writes them for
 * its public address, and the page's policy lets it load from its own alone. The signature covers no host. */
export function local(url: string): string {
  // A picture that came with the answer.
  if (url.startsWith("data:")) return url;
  const { pathname, search } = new URL(url, location.href);
  return pathname + search;
}
