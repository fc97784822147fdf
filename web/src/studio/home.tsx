import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import { add } from "../state/submit";
import { hasLoaded, loadFirst } from "../state/conversions";
import { Gallery } from "./gallery";
import { SubmitPanel } from "./submit-panel";

export function HomePage(): JSX.Element {
  useEffect(() => {
    if (!hasLoaded.value) void loadFirst();
    const paste = (event: ClipboardEvent): void => {
      const files = event.clipboardData?.files;
      if (files !== undefined && files.length > 0) add(files);
    };
    addEventListener("paste", paste);
    return () => removeEventListener("paste", paste);
  }, []);
  return (
    <main id="main" class="home">
      <h1 class="sr-only">Studio</h1>
      <SubmitPanel />
      <Gallery />
    </main>
  );
}
