/** The token that requests carry. One of an identity provider's is renewed before it ends, where the provider lets us. */
import { asFailure } from "./errors";

export interface Grant {
  readonly token: string;
  /** By this browser's clock, in milliseconds; null: not known here. */
  readonly expiresAt: number | null;
  /** Gets the next token; null: there will be none. */
  readonly refreshToken: string | null;
}

export interface Renewal {
  renew(grant: Grant): Promise<Grant>;
  /** There is a new token; connections that were opened with the old one must be opened anew. */
  onRenewed(grant: Grant): void;
  /** The provider gives no further one. */
  onRefused(): void;
}

/** How long before its end a token is renewed. */
const LEAD = 60_000;
/** A token that ends sooner isn't used for a request that begins now. */
const SPARE = 5_000;
/** One that was renewed so lately and is refused won't get better by being renewed again. */
const REST = 15_000;
/** The longest that a browser's timers take. */
const TIMER_MAX = 2_000_000_000;

export class Credentials {
  private renewing: Promise<void> | null = null;
  private renewedAt = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private grant: Grant,
    private readonly renewal: Renewal | null = null,
  ) {
    this.schedule();
  }

  /** The token at hand. */
  get token(): string {
    return this.grant.token;
  }

  get refreshToken(): string | null {
    return this.grant.refreshToken;
  }

  /** A token that counts, as far as is known here: renewed first when the one at hand is about to end. */
  async fresh(): Promise<string> {
    const { expiresAt } = this.grant;
    if (expiresAt !== null && expiresAt - Date.now() < SPARE && this.canRenew) await this.renew();
    return this.grant.token;
  }

  /** Whether there may be another token; after a refusal this is asked, and the next request brings it. */
  distrust(): boolean {
    if (!this.canRenew || Date.now() - this.renewedAt < REST) return false;
    this.grant = { ...this.grant, expiresAt: 0 };
    return true;
  }

  close(): void {
    clearTimeout(this.timer);
  }

  private get canRenew(): boolean {
    return this.renewal !== null && this.grant.refreshToken !== null;
  }

  private schedule(): void {
    clearTimeout(this.timer);
    const { expiresAt } = this.grant;
    if (expiresAt === null || !this.canRenew) return;
    const left = expiresAt - Date.now();
    // Of short lives the last tenth.
    const wait = left - Math.min(LEAD, left / 10);
    this.timer = setTimeout(() => void this.renew(), Math.min(Math.max(wait, 1_000), TIMER_MAX));
  }

  /** At most one at a time: a refresh token may work only once. */
  private renew(): Promise<void> {
    this.renewing ??= this.tryToRenew().finally(() => {
      this.renewing = null;
    });
    return this.renewing;
  }

  private async tryToRenew(): Promise<void> {
    if (this.renewal === null) return;
    try {
      const next = await this.renewal.renew(this.grant);
      this.grant = next;
      this.renewedAt = Date.now();
      this.schedule();
      this.renewal.onRenewed(next);
    } catch (error) {
      if (asFailure(error).code !== "NETWORK") return this.renewal.onRefused();
      // The provider can't be reached: the token at hand is all there is until it can.
      this.timer = setTimeout(() => void this.renew(), SPARE);
    }
  }
}
