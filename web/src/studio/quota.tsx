import type { JSX } from "preact";
import type { Person } from "../state/app";

type Quota = Person["quota"];

function left(limit: number | null | undefined, used: number): number | null {
  return limit === null || limit === undefined ? null : Math.max(0, limit - used);
}

/** What is left, the scarcest first. */
export function QuotaMeter({ quota }: { quota: Quota }): JSX.Element {
  const today = left(quota.conversionsPerDay, quota.conversionsToday);
  const now = left(quota.conversionsAtOnce, quota.conversionsActive);
  const explained = [
    today === null ? "No daily limit." : `${today} of ${quota.conversionsPerDay} conversions left today (UTC).`,
    now === null ? "" : `${now} of ${quota.conversionsAtOnce} may still be added now.`,
    `${quota.requestsRemaining} submissions may follow at once, ${quota.requestsPerMinute} a minute.`,
  ].join(" ");
  if (today === null) {
    return (
      <span class="quota" title={explained}>
        <span class="quota-text">{quota.conversionsToday} today</span>
      </span>
    );
  }
  return (
    <span class={today === 0 ? "quota spent" : "quota"} title={explained}>
      <span class="quota-text">
        <b>{today}</b> left today
      </span>
      <progress value={today} max={quota.conversionsPerDay ?? 1} aria-label={explained} />
    </span>
  );
}
