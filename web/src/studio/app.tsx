import type { ComponentChildren, JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { dismiss, isAdmin, link, notices, person } from "../state/app";
import { follow, route } from "../state/route";
import { leave } from "../state/sign-in";
import { theme, toggleTheme } from "../state/theme";
import { AdminPage } from "./admin";
import { ConversionPage } from "./conversion-page";
import { HomePage } from "./home";
import { Icon, Mark } from "./icons";
import type { IconName } from "./icons";
import { QuotaMeter } from "./quota";
import { SignInPage } from "./sign-in";

function NavLink({ path, icon, children }: { path: string; icon: IconName; children: ComponentChildren }): JSX.Element {
  const isHere = path === "/" ? route.value.page === "home" : location.pathname === path && route.value.page !== "missing";
  return (
    <a href={path} aria-current={isHere ? "page" : undefined} onClick={(event) => follow(event, path)}>
      <Icon name={icon} />
      <span>{children}</span>
    </a>
  );
}

function ThemeButton(): JSX.Element {
  const isDark = theme.value === "dark";
  const label = isDark ? "Use light colours" : "Use dark colours";
  return (
    <button type="button" class="quiet icon-only" aria-label={label} title={label} onClick={toggleTheme}>
      <Icon name={isDark ? "sun" : "moon"} />
    </button>
  );
}

function Header(): JSX.Element {
  return (
    <header class="top">
      <a class="brand" href="/" onClick={(event) => follow(event, "/")}>
        <Mark />
        <span>orfeas</span>
      </a>
      {person.value !== null && (
        <nav aria-label="Pages">
          <NavLink path="/" icon="home">Studio</NavLink>
          {isAdmin.value && <NavLink path="/admin" icon="admin">Admin</NavLink>}
          {isAdmin.value && (
            <a href="/console">
              <Icon name="console" />
              <span>Console</span>
            </a>
          )}
        </nav>
      )}
      <div class="top-end">
        {person.value !== null && <QuotaMeter quota={person.value.quota} />}
        <ThemeButton />
        {person.value !== null && (
          <button type="button" class="quiet" onClick={() => void leave()} title={`Sign out ${person.value.name}`}>
            <span class="who">{person.value.name}</span>
            <Icon name="out" />
            <span class="sr-only">Sign out</span>
          </button>
        )}
      </div>
    </header>
  );
}

function Notices(): JSX.Element {
  return (
    <div class="notices" role="status" aria-live="polite">
      {notices.value.map(({ id, kind, title, text }) => (
        <div key={id} class={`notice ${kind}`}>
          <div>
            <strong>{title}</strong>
            {text !== "" && <p>{text}</p>}
          </div>
          <button type="button" class="quiet icon-only" aria-label="Dismiss" onClick={() => dismiss(id)}>
            <Icon name="close" size={16} />
          </button>
        </div>
      ))}
    </div>
  );
}

function Missing(): JSX.Element {
  return (
    <main id="main" class="narrow">
      <h1>There is nothing here</h1>
      <p>
        <a href="/" onClick={(event) => follow(event, "/")}>Back to the studio</a>
      </p>
    </main>
  );
}

function titleOf(page: string): string {
  if (person.value === null) return "Sign in · orfeas";
  if (page === "admin") return "Admin · orfeas";
  if (page === "conversion") return "Conversion · orfeas";
  return "orfeas studio";
}

function Page(): JSX.Element {
  const here = route.value;
  if (person.value === null) return <SignInPage />;
  if (here.page === "home") return <HomePage />;
  if (here.page === "conversion") return <ConversionPage key={here.id} id={here.id} />;
  if (here.page === "admin" && isAdmin.value) return <AdminPage />;
  return <Missing />;
}

/** Where one is, for whoever reads by ear or moves by keys: another page begins at its own beginning. */
function useFocus(place: string): void {
  const before = useRef(place);
  useEffect(() => {
    if (before.current === place) return;
    before.current = place;
    const main = document.getElementById("main");
    main?.setAttribute("tabindex", "-1");
    main?.focus({ preventScroll: true });
  }, [place]);
}

export function App(): JSX.Element {
  const here = route.value;
  const { page } = here;
  const isIn = person.value !== null;
  useFocus(here.page === "conversion" ? here.id : `${page} ${isIn}`);
  useEffect(() => {
    document.title = titleOf(page);
  }, [page, isIn]);
  return (
    <>
      <a class="skip" href="#main">Skip to the content</a>
      <Header />
      {isIn && link.value === "lost" && (
        <p class="banner" role="status">
          The connection to the server is lost. Trying again; what was submitted goes on.
        </p>
      )}
      <Page />
      <Notices />
    </>
  );
}
