import { defineConfig } from "vite";

// Where `npm run dev` finds a server.
const server = "http://127.0.0.1:8080";

export default defineConfig({
  // The server has routes of its own at /assets.
  build: {
    assetsDir: "web",
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 5000,
    modulePreload: { polyfill: false },
    rolldownOptions: { input: ["index.html", "console.html"] },
    target: "es2022",
  },
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  // The order of modules decides how they are cut into files, and goes by their paths: those of packages must lie below
  // this folder also where `node_modules` is a link, so that everybody's build is the same to the byte.
  resolve: { preserveSymlinks: true },
  server: {
    proxy: {
      "/graphql": { target: server, ws: true, changeOrigin: true, rewriteWsOrigin: true },
      "/assets": { target: server, changeOrigin: true },
      "/sign-in.json": { target: server, changeOrigin: true },
    },
  },
  worker: { format: "es" },
});
