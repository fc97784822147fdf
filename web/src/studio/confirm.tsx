import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";

interface Question {
  title: string;
  text: string;
  action: string;
  onYes(): void;
  onNo(): void;
}

export function Confirm({ title, text, action, onYes, onNo }: Question): JSX.Element {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current?.showModal(), []);
  // Not at the `close` event, which comes with the next frame: by then the question may have been asked again. Closing gives
  // the focus back.
  const no = (): void => {
    dialog.current?.close();
    onNo();
  };
  return (
    <dialog ref={dialog} class="sheet" aria-labelledby="question" onCancel={no}>
      <h2 id="question">{title}</h2>
      <p>{text}</p>
      <div class="row end">
        <button type="button" onClick={no}>Keep</button>
        <button type="button" class="danger" onClick={onYes}>{action}</button>
      </div>
    </dialog>
  );
}
