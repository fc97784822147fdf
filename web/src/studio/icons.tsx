import type { JSX } from "preact";

const PATHS = {
  admin: "M4 7h16M4 12h16M4 17h16M8 5v4M15 10v4M10 15v4",
  back: "M15 5l-7 7 7 7",
  check: "M5 12.5l4.5 4.5L19 7.5",
  close: "M6 6l12 12M18 6L6 18",
  console: "M4 6l6 6-6 6M12 18h8",
  cube: "M12 3l8 4.5v9L12 21l-8-4.5v-9zM4 7.5l8 4.5 8-4.5M12 12v9",
  download: "M12 4v11M7 11l5 5 5-5M5 20h14",
  home: "M4 11l8-7 8 7v9h-5v-6H9v6H4z",
  moon: "M20 14.5A8 8 0 0 1 9.5 4a8 8 0 1 0 10.5 10.5z",
  out: "M14 4h5v16h-5M4 12h10M10 8l4 4-4 4",
  picture: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15 9h.01",
  reset: "M5 9a8 8 0 1 1-.6 5M5 4v5h5",
  retry: "M19 9a8 8 0 1 0 .6 5M19 4v5h-5",
  spin: "M4 12a8 3.5 0 1 0 8-3.5M12 5l-3 3.5L12 12",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.4 1.4M17.6 17.6L19 19M5 19l1.4-1.4M17.6 6.4L19 5",
  trash: "M5 7h14M9 7V4h6v3M7 7l1 13h8l1-13",
  upload: "M12 16V5M7 9l5-5 5 5M5 20h14",
  warning: "M12 4l9 16H3zM12 10v4M12 17h.01",
  wire: "M12 3l8 4.5v9L12 21l-8-4.5v-9zM12 3v18M4 7.5l16 9M20 7.5l-16 9",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name, size = 18 }: { name: IconName; size?: number }): JSX.Element {
  return (
    <svg
      class="icon"
      width={size}
      height={size}
      viewBox="0 0 24 24"
      fill="none"
      stroke="currentColor"
      stroke-width="1.8"
      stroke-linecap="round"
      stroke-linejoin="round"
      aria-hidden="true"
      focusable="false"
    >
      <path d={PATHS[name]} />
    </svg>
  );
}

export function Mark(): JSX.Element {
  return (
    <svg class="mark" width="26" height="26" viewBox="0 0 32 32" fill="none" aria-hidden="true" focusable="false">
      <path d="M16 3.5 27 9.8v12.4L16 28.5 5 22.2V9.8z" />
      <path d="M5 9.8 16 16l11-6.2M16 16v12.5" />
    </svg>
  );
}
