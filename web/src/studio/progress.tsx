import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { Conversion } from "../state/conversions";
import { doing, duration, share } from "./words";

/** Seconds left, counted down between the server's estimates. */
function useCountdown(estimate: number | null): number | null {
  const [heard, setHeard] = useState({ estimate, at: Date.now() });
  const [, tick] = useState(0);
  useEffect(() => setHeard({ estimate, at: Date.now() }), [estimate]);
  useEffect(() => {
    if (estimate === null) return undefined;
    const timer = setInterval(() => tick((count) => count + 1), 1000);
    return () => clearInterval(timer);
  }, [estimate === null]);
  return heard.estimate === null ? null : Math.max(0, heard.estimate - (Date.now() - heard.at) / 1000);
}

export function Progress({ conversion }: { conversion: Conversion }): JSX.Element {
  const left = useCountdown(conversion.etaSeconds ?? null);
  const text = doing(conversion);
  return (
    <div class="progress">
      <div class="progress-text">
        <span>{text}</span>
        <span class="muted">{left === null ? share(conversion.progress) : left < 1 ? "any moment" : `about ${duration(left)} left`}</span>
      </div>
      <progress value={conversion.progress} max={1} aria-label={text} />
    </div>
  );
}
