/** Reads a mesh file of any of the server's formats; +Y up, about 1 in size. */
import { Box3, Group, Mesh, MeshStandardMaterial, SRGBColorSpace, Texture, TextureLoader, Vector3 } from "three";
import type { BufferGeometry, Object3D } from "three";
import type { OBJLoader } from "three/addons/loaders/OBJLoader.js";
import type { MeshFormat } from "../generated/graphql";

function meshOf(geometry: BufferGeometry): Object3D {
  if (!geometry.hasAttribute("normal")) geometry.computeVertexNormals();
  return new Mesh(geometry, new MeshStandardMaterial());
}

function isZip(bytes: Uint8Array): boolean {
  return bytes[0] === 0x50 && bytes[1] === 0x4b;
}

/** An OBJ that comes with its texture. */
async function packedObj(zip: Uint8Array, loader: OBJLoader): Promise<Object3D> {
  const { unzipSync } = await import("three/addons/libs/fflate.module.js");
  const files = unzipSync(zip);
  const { "mesh.obj": text, "texture.png": picture } = files;
  if (text === undefined) throw new Error("the archive has no mesh");
  const object = loader.parse(new TextDecoder().decode(text));
  if (picture === undefined) return object;
  const bitmap = await createImageBitmap(new Blob([picture.slice()], { type: "image/png" }), { imageOrientation: "flipY" });
  const map = new Texture(bitmap);
  // The bitmap has been turned over: v runs up in an OBJ.
  map.flipY = false;
  map.colorSpace = SRGBColorSpace;
  map.needsUpdate = true;
  object.traverse((node) => {
    if (node instanceof Mesh) node.material = new MeshStandardMaterial({ map });
  });
  return object;
}

async function read(format: MeshFormat, url: string): Promise<Object3D> {
  switch (format) {
    case "GLB": {
      const { GLTFLoader } = await import("three/addons/loaders/GLTFLoader.js");
      const loader = new GLTFLoader();
      // Textures by an element: by themselves they would be fetched, which the page's policy allows from its server alone.
      loader.register((parser) => {
        parser.textureLoader = new TextureLoader(parser.options.manager);
        return { name: "textures" };
      });
      return (await loader.loadAsync(url)).scene;
    }
    case "PLY": {
      const { PLYLoader } = await import("three/addons/loaders/PLYLoader.js");
      return meshOf(await new PLYLoader().loadAsync(url));
    }
    case "OBJ": {
      const { OBJLoader } = await import("three/addons/loaders/OBJLoader.js");
      const answer = await fetch(url);
      if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
      const bytes = new Uint8Array(await answer.arrayBuffer());
      return isZip(bytes) ? packedObj(bytes, new OBJLoader()) : new OBJLoader().parse(new TextDecoder().decode(bytes));
    }
    case "STL": {
      const { STLLoader } = await import("three/addons/loaders/STLLoader.js");
      return meshOf(await new STLLoader().loadAsync(url));
    }
    case "THREE_MF": {
      const { ThreeMFLoader } = await import("three/addons/loaders/3MFLoader.js");
      return new ThreeMFLoader().loadAsync(url);
    }
  }
}

/** The mesh, centred, its longest side 1, with one material that shows its colours. */
export async function loadMesh(url: string, format: MeshFormat, material: MeshStandardMaterial): Promise<Group> {
  const object = await read(format, url);
  // What printers' files call up.
  if (format === "STL" || format === "THREE_MF") object.rotation.x = -Math.PI / 2;
  object.updateMatrixWorld(true);
  const box = new Box3().setFromObject(object);
  const centre = box.getCenter(new Vector3());
  const size = box.getSize(new Vector3());
  const longest = Math.max(size.x, size.y, size.z) || 1;
  object.traverse((node) => {
    if (!(node instanceof Mesh)) return;
    const { map } = node.material as MeshStandardMaterial;
    if (map) material.map = map;
    material.vertexColors ||= (node.geometry as BufferGeometry).hasAttribute("color");
    node.material = material;
  });
  const holder = new Group();
  holder.add(object);
  holder.scale.setScalar(1 / longest);
  holder.position.copy(centre).multiplyScalar(-1 / longest);
  holder.updateMatrixWorld(true);
  return holder;
}
