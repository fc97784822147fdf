import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { person } from "../state/app";
import { cancel, hasEnded, remove, retry } from "../state/conversions";
import type { Conversion } from "../state/conversions";
import { go } from "../state/route";
import { Confirm } from "./confirm";
import { Icon } from "./icons";

function may(what: "SUBMIT" | "CANCEL"): boolean {
  return person.value?.permissions.some((one) => one === what || one === "ADMIN") ?? false;
}

async function again(id: string): Promise<void> {
  const fresh = await retry(id);
  if (fresh !== null) go(`/conversions/${fresh.id}`);
}

/** What can be done to a conversion: cancel it while it lives, then repeat or delete it. */
export function Actions({ conversion, onGone }: { conversion: Conversion; onGone?: () => void }): JSX.Element {
  const [asks, setAsks] = useState(false);
  const { id, status, cancelRequested } = conversion;
  const over = hasEnded(status);
  return (
    <>
      {!over && may("CANCEL") && (
        <button type="button" disabled={cancelRequested} onClick={() => void cancel(id)}>
          <Icon name="close" size={16} />
          {cancelRequested ? "Stopping …" : "Cancel"}
        </button>
      )}
      {over && may("SUBMIT") && (
        <button type="button" onClick={() => void again(id)} title="Submits the same picture again, with the same options">
          <Icon name="retry" size={16} />
          {status === "SUCCEEDED" ? "Convert again" : "Try again"}
        </button>
      )}
      {over && may("CANCEL") && (
        <button type="button" class="danger-text" onClick={() => setAsks(true)}>
          <Icon name="trash" size={16} />
          Delete
        </button>
      )}
      {asks && (
        <Confirm
          title="Delete this conversion?"
          text="Its picture and its meshes are removed from the server for good."
          action="Delete"
          onNo={() => setAsks(false)}
          onYes={() => {
            setAsks(false);
            void remove(id).then((isGone) => isGone && onGone?.());
          }}
        />
      )}
    </>
  );
}
