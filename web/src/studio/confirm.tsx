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
  return (
    <dialog ref={dialog} class="sheet" aria-labelledby="question" onClose={onNo}>
      <h2 id="question">{title}</h2>
      <p>{text}</p>
      <div class="row end">
        <button type="button" onClick={() => dialog.current?.close()}>Keep</button>
        <button type="button" class="danger" onClick={onYes}>{action}</button>
      </div>
    </dialog>
  );
}
