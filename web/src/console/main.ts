/** The console's page. GraphiQL is loaded for admins alone: others are told where to go. */
import "../styles/base.css";
import "../styles/console.css";
import { storedToken } from "../api/session";
import { applyTheme } from "../state/theme";

applyTheme();
const found = document.getElementById("console");
if (found === null) throw new Error("The page has no place for the console.");
const place = found;

function tell(title: string, text: string): void {
  const heading = document.createElement("h1");
  heading.textContent = title;
  const words = document.createElement("p");
  words.textContent = text;
  const link = document.createElement("a");
  link.href = "/";
  link.textContent = "To the studio";
  const box = document.createElement("main");
  box.className = "narrow";
  box.append(heading, words, link);
  place.replaceChildren(box);
}

/** What the server says of a token; null when it says nothing. */
async function permissionsOf(token: string): Promise<readonly string[] | null> {
  const answer = await fetch("/graphql", {
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: JSON.stringify({ query: "{ viewer { permissions } }" }),
  });
  const { data } = (await answer.json()) as { data?: { viewer: { permissions: string[] } } | null };
  return data?.viewer.permissions ?? null;
}

async function open(): Promise<void> {
  const token = storedToken();
  if (token === null) return tell("The console is for admins", "Sign in at the studio first, then come back.");
  const permissions = await permissionsOf(token);
  if (permissions === null) return tell("Your sign-in has ended", "Sign in again at the studio, then come back.");
  if (!permissions.includes("ADMIN")) {
    return tell("The console is for admins", "Your token isn't an admin's. What you may do, the studio offers.");
  }
  const { openConsole } = await import("./graphiql");
  openConsole(place, token);
}

open().catch(() => tell("The server can't be reached", "Check the connection and reload the page."));
