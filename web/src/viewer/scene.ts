/** Draws one mesh: turned by pointer, touch and keys, drawn only when something has changed. */
import {
  AmbientLight,
  Box3,
  Color,
  DirectionalLight,
  GridHelper,
  LineBasicMaterial,
  LineSegments,
  Mesh,
  MeshStandardMaterial,
  PerspectiveCamera,
  Scene as Space,
  WebGLRenderer,
  WireframeGeometry,
} from "three";
import type { BufferGeometry, Group, Object3D } from "three";
import { OrbitControls } from "three/addons/controls/OrbitControls.js";
import type { MeshFormat } from "../generated/graphql";
import { loadMesh } from "./load";

export interface Scene {
  setDark(isDark: boolean): void;
  setWireframe(isOn: boolean): void;
  setSpinning(isOn: boolean): void;
  reset(): void;
  close(): void;
}

const TURN = Math.PI / 16;
const ZOOM = 1.15;
const DISTANCE = 2.2;
/** A little to the side of the picture's camera: from right in front a mesh looks flat. */
const SIDE = 0.45;
const HEIGHT = 0.35;

function lit(camera: PerspectiveCamera, space: Space): void {
  const key = new DirectionalLight(0xffffff, 2.1);
  key.position.set(0.6, 1.2, 1);
  const rim = new DirectionalLight(0xffffff, 0.7);
  rim.position.set(-1, 0.3, -0.6);
  // Lights that go with the viewer: no side of the mesh is ever in the dark.
  camera.add(key, rim);
  space.add(camera, new AmbientLight(0xffffff, 1.25));
}

function edgesOf(mesh: Group): LineSegments[] {
  const found: LineSegments[] = [];
  const material = new LineBasicMaterial({ color: 0x000000, transparent: true, opacity: 0.35 });
  const parents: Object3D[] = [];
  mesh.traverse((node) => parents.push(node));
  for (const node of parents) {
    if (!(node instanceof Mesh)) continue;
    const lines = new LineSegments(new WireframeGeometry(node.geometry as BufferGeometry), material);
    node.add(lines);
    found.push(lines);
  }
  return found;
}

function free(space: Space): void {
  space.traverse((node) => {
    if (node instanceof Mesh || node instanceof LineSegments) {
      (node.geometry as BufferGeometry).dispose();
      const material = node.material as MeshStandardMaterial | MeshStandardMaterial[];
      for (const one of Array.isArray(material) ? material : [material]) {
        one.map?.dispose();
        one.dispose();
      }
    }
  });
}

function watchKeys(canvas: HTMLCanvasElement, camera: PerspectiveCamera, controls: OrbitControls, reset: () => void): () => void {
  const turn = (x: number, y: number): void => {
    const offset = camera.position.clone().sub(controls.target);
    const radius = offset.length();
    const across = Math.atan2(offset.x, offset.z) + x;
    const down = Math.min(Math.max(Math.acos(offset.y / radius) + y, 0.05), Math.PI - 0.05);
    camera.position.setFromSphericalCoords(radius, down, across).add(controls.target);
  };
  const zoom = (factor: number): void => {
    const offset = camera.position.clone().sub(controls.target);
    const length = Math.min(Math.max(offset.length() * factor, controls.minDistance), controls.maxDistance);
    camera.position.copy(controls.target).add(offset.setLength(length));
  };
  const keys: Record<string, () => void> = {
    ArrowLeft: () => turn(-TURN, 0),
    ArrowRight: () => turn(TURN, 0),
    ArrowUp: () => turn(0, -TURN),
    ArrowDown: () => turn(0, TURN),
    "+": () => zoom(1 / ZOOM),
    "=": () => zoom(1 / ZOOM),
    "-": () => zoom(ZOOM),
    Home: reset,
  };
  const onKey = (event: KeyboardEvent): void => {
    const work = keys[event.key];
    if (work === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    work();
    controls.update();
  };
  canvas.addEventListener("keydown", onKey);
  return () => canvas.removeEventListener("keydown", onKey);
}

export async function openScene(canvas: HTMLCanvasElement, url: string, format: MeshFormat): Promise<Scene> {
  const renderer = new WebGLRenderer({ canvas, alpha: true, antialias: true });
  const material = new MeshStandardMaterial({ roughness: 0.85, metalness: 0, polygonOffset: true, polygonOffsetFactor: 1, polygonOffsetUnits: 1 });
  let mesh: Group;
  try {
    mesh = await loadMesh(url, format, material);
  } catch (error) {
    renderer.dispose();
    throw error;
  }
  const space = new Space();
  space.add(mesh);
  const camera = new PerspectiveCamera(35, 1, 0.01, 100);
  lit(camera, space);
  const grid = new GridHelper(2, 20);
  grid.position.y = new Box3().setFromObject(mesh).min.y - 0.002;
  const gridMaterial = grid.material as LineBasicMaterial;
  gridMaterial.transparent = true;
  gridMaterial.opacity = 0.16;
  space.add(grid);
  const controls = new OrbitControls(camera, canvas);
  controls.minDistance = 0.4;
  controls.maxDistance = 6;
  controls.enablePan = true;
  controls.autoRotateSpeed = 2;

  let edges: LineSegments[] | null = null;
  let isAsked = false;
  let isOver = false;
  const draw = (): void => {
    isAsked = false;
    if (isOver) return;
    if (controls.autoRotate) controls.update();
    renderer.render(space, camera);
    if (controls.autoRotate) ask();
  };
  const ask = (): void => {
    if (isAsked) return;
    isAsked = true;
    requestAnimationFrame(draw);
  };
  const reset = (): void => {
    controls.target.set(0, 0, 0);
    camera.position.set(SIDE, HEIGHT, 1).setLength(DISTANCE);
    controls.update();
    ask();
  };
  const fit = (): void => {
    const { clientWidth, clientHeight } = canvas;
    if (clientWidth === 0 || clientHeight === 0) return;
    renderer.setPixelRatio(Math.min(devicePixelRatio, 2));
    renderer.setSize(clientWidth, clientHeight, false);
    camera.aspect = clientWidth / clientHeight;
    camera.updateProjectionMatrix();
    ask();
  };
  const sizes = new ResizeObserver(fit);
  sizes.observe(canvas);
  controls.addEventListener("change", ask);
  const forgetKeys = watchKeys(canvas, camera, controls, reset);
  reset();
  fit();

  return {
    setDark(isDark) {
      gridMaterial.color = new Color(isDark ? 0xffffff : 0x3a3530);
      ask();
    },
    setWireframe(isOn) {
      edges ??= isOn ? edgesOf(mesh) : null;
      for (const lines of edges ?? []) lines.visible = isOn;
      ask();
    },
    setSpinning(isOn) {
      controls.autoRotate = isOn;
      ask();
    },
    reset,
    close() {
      isOver = true;
      sizes.disconnect();
      forgetKeys();
      controls.dispose();
      free(space);
      renderer.dispose();
    },
  };
}
