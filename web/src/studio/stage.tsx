/** The 3D view of a mesh and its switches. What draws is loaded when it is first needed. */
import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { local } from "../api/link";
import type { MeshFormat } from "../generated/graphql";
import type { Conversion } from "../state/conversions";
import { theme } from "../state/theme";
import type { Scene } from "../viewer/scene";
import { Icon } from "./icons";
import type { IconName } from "./icons";

/** Which file is shown, the best first. */
const SHOWN: readonly MeshFormat[] = ["GLB", "PLY", "OBJ", "THREE_MF", "STL"];

type State = "loading" | "ready" | "failed";

function Switch({ icon, label, on, onClick }: { icon: IconName; label: string; on?: boolean; onClick: () => void }): JSX.Element {
  return (
    <button type="button" class="icon-only" aria-label={label} title={label} aria-pressed={on} onClick={onClick}>
      <Icon name={icon} />
    </button>
  );
}

export function Stage({ conversion }: { conversion: Conversion }): JSX.Element {
  const canvas = useRef<HTMLCanvasElement>(null);
  const scene = useRef<Scene | null>(null);
  const [state, setState] = useState<State>("loading");
  const [isWire, setWire] = useState(false);
  const [isSpinning, setSpinning] = useState(false);
  const [ground, setGround] = useState<"light" | "dark" | null>(null);
  const shown = SHOWN.map((format) => conversion.outputs.find((output) => output.format === format)).find(Boolean);
  const isDark = (ground ?? theme.value) === "dark";

  useEffect(() => {
    if (canvas.current === null || !shown?.format) return undefined;
    const place = canvas.current;
    const { format, url } = shown;
    let isOver = false;
    setState("loading");
    import("../viewer/scene")
      .then(({ openScene }) => openScene(place, local(url), format))
      .then((opened) => {
        if (isOver) return opened.close();
        scene.current = opened;
        opened.setDark(isDark);
        setState("ready");
      })
      .catch(() => isOver || setState("failed"));
    return () => {
      isOver = true;
      scene.current?.close();
      scene.current = null;
    };
  }, [shown?.format, conversion.id]);
  useEffect(() => scene.current?.setDark(isDark), [isDark]);
  useEffect(() => scene.current?.setWireframe(isWire), [isWire]);
  useEffect(() => scene.current?.setSpinning(isSpinning), [isSpinning]);

  return (
    <div class="stage" data-ground={isDark ? "dark" : "light"} data-state={state}>
      <canvas
        ref={canvas}
        tabIndex={0}
        role="application"
        aria-roledescription="3D view"
        aria-label="The mesh. Arrow keys turn it, plus and minus come closer and go away, Home puts it back."
      />
      {state === "loading" && conversion.preview && <img class="poster" src={local(conversion.preview.url)} alt="" />}
      {state === "loading" && <p class="stage-note" role="status">Loading the mesh …</p>}
      {state === "failed" && (
        <div class="stage-note" role="alert">
          <p>This browser can't show the mesh (it needs WebGL). The files below are fine.</p>
        </div>
      )}
      {state === "ready" && (
        <>
          {conversion.source && <img class="stage-source" src={local(conversion.source.url)} alt="The picture it was made from" />}
          <div class="stage-tools" role="toolbar" aria-label="View">
            <Switch icon="reset" label="Back to the picture's view" onClick={() => scene.current?.reset()} />
            <Switch icon="spin" label="Turn slowly" on={isSpinning} onClick={() => setSpinning(!isSpinning)} />
            <Switch icon="wire" label="Wireframe" on={isWire} onClick={() => setWire(!isWire)} />
            <Switch icon={isDark ? "sun" : "moon"} label={isDark ? "Light ground" : "Dark ground"} onClick={() => setGround(isDark ? "light" : "dark")} />
          </div>
          <p class="stage-help">Drag to turn · scroll or pinch to zoom</p>
        </>
      )}
    </div>
  );
}
