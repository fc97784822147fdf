/** Light or dark: the system's choice until the person makes one. */
import { computed, effect, signal } from "@preact/signals";

type Theme = "light" | "dark";

const NAME = "orfeas.theme";
const system = matchMedia("(prefers-color-scheme: dark)");

function stored(): Theme | null {
  try {
    const text = localStorage.getItem(NAME);
    return text === "light" || text === "dark" ? text : null;
  } catch {
    return null;
  }
}

const chosen = signal<Theme | null>(stored());
const isSystemDark = signal(system.matches);

export const theme = computed<Theme>(() => chosen.value ?? (isSystemDark.value ? "dark" : "light"));

export function toggleTheme(): void {
  const next = theme.value === "dark" ? "light" : "dark";
  // Back to what the system has: follow it again.
  chosen.value = next === (isSystemDark.value ? "dark" : "light") ? null : next;
  try {
    if (chosen.value === null) localStorage.removeItem(NAME);
    else localStorage.setItem(NAME, chosen.value);
  } catch {
    // It lasts as long as the page.
  }
}

export function applyTheme(): void {
  system.addEventListener("change", () => {
    isSystemDark.value = system.matches;
  });
  effect(() => {
    document.documentElement.dataset["theme"] = theme.value;
  });
}
