import reactHooks from "eslint-plugin-react-hooks";
import tseslint from "typescript-eslint";

export default tseslint.config(
  { ignores: ["dist", "node_modules", "src/api/contract"] },
  ...tseslint.configs.strict,
  {
    plugins: { "react-hooks": reactHooks },
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: {
      "react-hooks/rules-of-hooks": "error",
      "react-hooks/exhaustive-deps": "error",
      eqeqeq: "error",
      "no-console": "error",
      "@typescript-eslint/consistent-type-imports": "error",
      // The bounds of an index are checked by the compiler (noUncheckedIndexedAccess); where a place is known, it says so with `as`.
      "@typescript-eslint/no-non-null-assertion": "error",
    },
  },
  {
    // Whatever is asked of the APIs goes through the client that contracts/ types; the stream is no request with an answer, and signing in
    // is the issuer's.
    files: ["src/**"],
    ignores: ["src/api/client.ts", "src/api/session.ts", "src/live/live_feed.ts"],
    rules: { "no-restricted-globals": ["error", "fetch", "XMLHttpRequest", "EventSource"] },
  },
  { files: ["check_first_load.ts"], rules: { "no-console": "off" } },
);
