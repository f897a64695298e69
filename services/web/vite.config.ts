import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// Where `depotgrid up` listens, for `npm run dev`.
const stack = process.env.DEPOTGRID_API_URL ?? "http://127.0.0.1:8080";

export default defineConfig({
  plugins: [react()],
  build: {
    outDir: "dist",
    manifest: true,
    // The content security policy knows no data: addresses for scripts and styles.
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 800,
  },
  server: { proxy: { "/api": stack, "/auth": stack, "/web-config.json": stack } },
});
