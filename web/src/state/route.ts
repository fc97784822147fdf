/** Which page is shown, by the address. */
import { signal } from "@preact/signals";

export type Route = { page: "home" } | { page: "conversion"; id: string } | { page: "admin" } | { page: "signed-in" } | { page: "missing" };

export function routeOf(path: string): Route {
  if (path === "/") return { page: "home" };
  if (path === "/admin") return { page: "admin" };
  if (path === "/signed-in") return { page: "signed-in" };
  const id = /^\/conversions\/([\w-]+)$/.exec(path)?.[1];
  return id === undefined ? { page: "missing" } : { page: "conversion", id };
}

export const route = signal<Route>(routeOf(location.pathname));

export function go(path: string): void {
  if (path !== location.pathname) history.pushState(null, "", path);
  route.value = routeOf(path);
  scrollTo(0, 0);
}

export function watchAddress(): void {
  addEventListener("popstate", () => {
    route.value = routeOf(location.pathname);
  });
}

/** Follows a link inside the page, unless the browser is asked to do something else with it. */
export function follow(event: MouseEvent, path: string): void {
  if (event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  go(path);
}
